"""`aworld plan` and the tables of a dry run, as a user meets them."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
from unplayed_run import unplayed_run

from aworld import config as configuration
from aworld.cli import main
from aworld.launch import cold_start
from aworld.launch.estimate import evaluated
from aworld.planning.cost import Line, assumed_episodes, cost
from aworld.planning.disk import disk
from aworld.planning.hardware import load
from aworld.planning.measured import measured
from aworld.planning.simulate import NEVER
from aworld.policies.folder import Deltas, deltas_in
from aworld.publish import append_json, publish_folder, publish_json
from aworld.rundir import RunDir, open_run
from aworld.training.position import Position, positions
from aworld.training.retention import prune_checkpoints, prune_policies
from aworld.trajectories import file
from aworld.trajectories.arrays import from_episodes
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal
from aworld.trajectories.timing import publish_timing

pytestmark = pytest.mark.unit
QWEN = ["recipe=grpo", "site=example", "model=qwen3-32b", "model.path=null", "model.recompute=selective"]


def episode(attempt: int, length: int = 4000) -> Episode:
    """Ids spread as a tokenizer's are, most of them small; four characters of text a token."""
    rng = np.random.default_rng(attempt)
    mask = (np.arange(length) > length // 4).astype(int).tolist()
    return Episode(
        round=1,
        task_id="task",
        attempt=attempt,
        level=1,
        question="?",
        token_ids=np.minimum(rng.exponential(20_000, length), 151_000).astype(int).tolist(),
        mask=mask,
        logprobs=[-float(rng.random()) if one else 0.0 for one in mask],
        turns=[Turn("assistant", "word" * length)],
        answer="4",
        reward=1.0,
        status="answered",
        seconds={"generate": 10.0 * (attempt + 1), "tools": 2.0, "total": 12.0},
        policy_version=0,
        seed=0,
        sampling={},
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose first round is played and trained."""
    run = unplayed_run(tmp_path)
    folder = run.round(1)
    folder.mkdir(parents=True)
    file.write(run.trajectories(1), from_episodes(1, [episode(attempt) for attempt in range(4)]))
    append_json(folder / "timing.jsonl", {"worker": 0, "began": 100.0, "load_seconds": 7.0, "ended": 160.0})
    publish_timing(folder, 3.0)
    publish_json(folder / "metrics.json", {"seconds": {"wait": 5.0, "train": 77.0}})
    return run


def test_a_plan_has_every_table_and_needs_no_checkpoint_and_no_engine() -> None:
    code = (
        "import sys; from aworld.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'vllm', 'megatron', 'transformers'} & sys.modules.keys()))"
    )
    words = [*(word for word in QWEN if "path" not in word), "pipeline.rounds=10", "pipeline.mode=batch"]
    done = subprocess.run([sys.executable, "-c", code, "plan", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in (
        "gradients",
        "episodes of 40,960. It plays 16 at once",
        "GPU-hours in all",
        "checkpoint",
        "in all:",
    ):
        assert words in done.stdout
    # 10 rounds of 16 workers' elements, a gather and a training; two evaluations of 8 elements; the report; after each
    # round but the last a job that submits a later one
    assert "206 jobs" in done.stdout.splitlines()[-1]


def test_a_plan_that_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", *QWEN, "model.recompute=none"])
    out, err = capsys.readouterr()
    assert code == 2 and not out
    assert err.count("\n") == 1 and err.rstrip().endswith("set model.recompute=selective")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.recompute=partial", "model.recompute=partial is not there; valid: none, selective, full"),
        ("model.parallel.pipeline_model_parallel_size=0", "it has to be at least 1"),
        ("model.parallel.context_parallel_size=2", "no multiple of model.parallel's 64 (tensor × pipeline × context)"),
        ("training.algorithm=ppo", "training.algorithm=ppo is not there"),
        ("pipeline.evaluations=[gaia-validaton]", "no tasks 'gaia-validaton'"),
    ],
)
def test_what_a_start_refuses_is_not_priced(override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *QWEN, override]) == 2
    out, err = capsys.readouterr()
    assert message in err and not out


def test_an_option_below_0_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *QWEN, "--preemptions", "-1"]) == 2
    assert capsys.readouterr().err.strip() == "error: --preemptions -1 cannot be; give a number of 0 or more"


def test_a_plan_of_a_run_takes_its_own_figures(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = open_run(run.root)
    assert found == run
    figures = measured(run)
    assert figures.newest == 1 and figures.episodes.lengths == [4000] * 4
    assert (figures.rollout.work, figures.rollout.files) == (53.0, 7.0)
    assert (figures.gather.work, figures.train.work) == (3.0, 77.0)
    assert figures.seconds == [12.0, 22.0, 32.0, 42.0]
    assert main(["plan", str(run.root), "pipeline.rounds=3"]) == 0
    out = capsys.readouterr().out
    assert "4 episodes a round of 4,000 tokens (median; 4,000 at 95 %; round 1)" in out
    assert "simulated: 42 s" in out and "round 1 took 53 s" in out
    assert "3 rounds in" in out.splitlines()[-1]


def test_a_run_that_has_played_nothing_has_no_figures(tmp_path: Path) -> None:
    assert measured(unplayed_run(tmp_path)) is None


def test_bytes_on_disk_are_those_of_real_files(tmp_path: Path) -> None:
    episodes = [episode(attempt) for attempt in range(3)]
    tokens = sum(len(one.token_ids) for one in episodes)
    with Journal(tmp_path / "journal") as journal:
        for one in episodes:
            journal.append(one)
    file.write(tmp_path / "trajectories.h5", from_episodes(1, episodes))
    config = configuration.load([*QWEN, "rollout.tasks_per_round=1", "rollout.group_size=3"])
    kept = {one.name: one.each for one in disk(config, tokens, []).kept}
    assert kept["journals of a round"] == pytest.approx((tmp_path / "journal").stat().st_size, rel=0.15)
    with h5py.File(tmp_path / "trajectories.h5") as f:
        per_token = sum(f[name].id.get_storage_size() for name in ("tokens", "mask", "logprobs"))
    assert kept["trajectories"] == per_token


def test_policies_stay_and_a_few_checkpoints_do() -> None:
    config = configuration.load([*QWEN, "pipeline.rounds=50"])
    kept = {one.name: one for one in disk(config, 1, []).kept}
    assert kept["policy"].count == kept["policy"].most == 50
    assert kept["policy"].each == pytest.approx(65.5e9, rel=0.001)
    assert (kept["checkpoint"].count, kept["checkpoint"].most) == (3, 4)
    assert kept["checkpoint"].each == pytest.approx(393.1e9, rel=0.001)


@pytest.mark.parametrize(
    ("full_every", "cold_start", "keep"),
    [
        (4, 0, []),
        (4, 2, ["keep_policies.last=2", "keep_policies.every=6", "keep_checkpoints.last=1"]),
        (4, 0, ["keep_policies.last=1", "max_lag=2", "keep_policies.evaluated=false"]),
        (1, 2, ["keep_policies.last=1", "evaluate_every=5", "keep_checkpoints.every=4"]),
    ],
)
def test_the_plan_counts_the_policies_that_a_run_keeps(
    full_every: int, cold_start: int, keep: list[str], tmp_path: Path
) -> None:
    """Against a run directory whose policies come and go as a trainer publishes and removes them."""
    words = [*QWEN, f"training.full_policy_every={full_every}", "pipeline.rounds=11", *(f"pipeline.{k}" for k in keep)]
    config = configuration.load([*words, f"training.cold_start.tasks={cold_start}"])
    run, most = RunDir(tmp_path), Counter[str]()

    def there() -> Counter[str]:
        found = Counter("policy as a delta" if deltas_in(run.policy(v)) else "policy" for v in run.policies())
        links = 0 if cold_start else int(bool(run.policies()))  # policy 0 without a cold start: links to the model
        return found - Counter({"policy": links}) + Counter({"checkpoint": len(positions(run.checkpoints))})

    for version in range(12):
        base = version - 1 if version % full_every and (version > 1 or cold_start) else None
        publish_folder(run.policy(version), lambda folder, base=base: written(folder, base))
        for name in config.pipeline.evaluation_overrides if version in config.pipeline.evaluated else ():
            publish_json(run.evaluation(name, version) / "timing.json", {})
        if version:
            run.trajectories(version).parent.mkdir(parents=True)
            run.trajectories(version).touch()
            publish_folder(run.checkpoints / f"round-{version:04d}", lambda folder: (folder / "x").touch())
            most |= there()
        prune_policies(config, run, made=version)
        prune_checkpoints(config, run, Position(version))
    planned = {one.name: one for one in disk(config, 1, []).kept}
    counts = {
        name: planned[name].count if name in planned else 0 for name in ("policy", "policy as a delta", "checkpoint")
    }
    assert counts == {name: there()[name] for name in counts}
    assert {name: planned[name].most for name in most} == dict(most)


def written(folder: Path, base: int | None) -> None:
    if base is None:
        (folder / "model.safetensors").touch()
    else:
        Deltas(base, {"model.safetensors": {"size": 1, "crc32": 0, "base_crc32": 0}}).write(folder)


def test_dynamic_sampling_plays_more_than_it_trains_on() -> None:
    config = configuration.load([*QWEN, "rollout.oversample=1.5"])
    plain, hardware = configuration.load(QWEN), load(config.site)
    more, less = (cost(each, True, assumed_episodes(each, 10_000), hardware, []) for each in (config, plain))
    assert len(more.episodes.lengths) == 1.5 * len(less.episodes.lengths) == 96 * 8
    assert more.lines[0].tokens > 1.4 * less.lines[0].tokens and more.lines[0].seconds > less.lines[0].seconds
    assert more.lines[2].tokens == pytest.approx(less.lines[2].tokens, rel=0.1)
    assert more.disk.total > less.disk.total


def test_benchmarks_count_with_their_own_size() -> None:
    more = "agent.enable_thinking=false"  # its checkpoint is not there, and not asked
    names = [
        "held-out",
        "gaia-validation tasks.path=/x evaluation.attempts=4",
        "gaia-test",
        f"xbench-deepsearch {more}",
    ]
    named = f"pipeline.evaluations=[{', '.join(names)}]"
    config = configuration.load([*QWEN, named, "evaluation.attempts=2", "tasks.held_out=70", "pipeline.rounds=20"])
    found = {each.name: (each.tasks, each.attempts, each.times) for each in evaluated(config)}
    assert found == {
        "held-out": (70, 2, 2),
        "gaia-validation": (165, 4, 2),
        "gaia-test": (301, 2, 2),
        "xbench-deepsearch": (100, 2, 2),
    }
    resident = cost(config, False, assumed_episodes(config), load(config.site), evaluated(config))
    jobs = {line.name: line.jobs for line in resident.lines}
    assert jobs["evaluate gaia-test"] == 2 * 8 and jobs["evaluate held-out"] == 0  # workers of the run play it
    assert jobs["await"] == 2 and "submit" not in jobs


@pytest.mark.parametrize("mode", ["batch", "resident"])
def test_the_cold_start_counts_with_who_plays_it(tmp_path: Path, mode: str) -> None:
    """A larger teacher takes longer than the policy; a mixture of experts is not counted; an endpoint holds no GPU."""
    cold = ["training.cold_start.tasks=64", "training.cold_start.attempts=8", "training.cold_start.epochs=2"]
    words = [*QWEN, *cold, f"pipeline.mode={mode}"]

    def lines(*more: str) -> dict[str, Line]:
        config = configuration.load([*words, *more])
        episodes, hardware = assumed_episodes(config), load(config.site)
        found = cost(config, mode == "batch", episodes, hardware, [], None, NEVER, cold_start.served(config))
        return {line.name: line for line in found.lines}

    def teacher(name: str, **values: int) -> str:
        architecture = asdict(configuration.load(words).model.architecture)
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(architecture | values))
        return f"training.cold_start.teacher.path={tmp_path / name}"

    own = lines("training.cold_start.player=policy")
    assert own["cold start, played"].seconds == pytest.approx(own["rollout"].seconds)  # as many episodes as a round
    assert own["cold start, trained"].tokens == 2 * own["train"].tokens
    larger = lines(teacher("larger", num_hidden_layers=128))
    assert larger["cold start, played"].seconds > 1.5 * own["cold start, played"].seconds
    assert larger["rollout"] == own["rollout"]
    assert lines(teacher("mixed", num_experts=128))["cold start, played"].seconds is None
    asked = lines("training.cold_start.teacher.model=x", "training.cold_start.teacher.base_url=http://localhost/v1")
    assert asked["cold start, played"].gpus == (0 if mode == "batch" else own["rollout"].gpus)


def test_slots_that_stay_idle_are_named_with_their_mend(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "recipe=gaia", "site=example"]
    assert main(words) == 0
    assert "idle" not in capsys.readouterr().out
    assert main([*words, "rollout.tasks_per_round=64"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "idle" in line)
    assert line.startswith("a round's 512 episodes leave 256 of 768 slots idle: ")
    for mend in ("rollout.tasks_per_round=96", "site.rollout.elements=11"):
        assert mend in line
        assert main([*words, "rollout.tasks_per_round=64", mend]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "idle" in line]
        assert said == [] or "leave 16 of 528" in said[0]  # less than a worker's
    assert main([*words, "rollout.tasks_per_round=64", "pipeline.mode=resident"]) == 0
    assert "idle" not in capsys.readouterr().out  # they begin the next round


def test_a_resident_run_holds_its_gpus_all_the_time() -> None:
    config = configuration.load([*QWEN, "pipeline.rounds=20"])
    episodes, hardware = assumed_episodes(config), load(config.site)
    batch = cost(config, True, episodes, hardware, evaluated(config))
    resident = cost(config, False, episodes, hardware, evaluated(config))
    assert batch.jobs == 20 * (16 + 2) + 19 + 2 * 8 + 1 and resident.jobs == 16 + 1 + 1
    assert resident.seconds < batch.seconds  # engines start once
    assert resident.gpu_hours == pytest.approx((16 * 8 + 4 * 8) * resident.seconds / 3600)


def test_longer_episodes_take_longer_and_more_workers_less() -> None:
    config = configuration.load(QWEN)
    hardware = load(config.site)

    def seconds(config: configuration.Config, mean: float) -> list[float]:
        lines = cost(config, True, assumed_episodes(config, mean), hardware, []).lines
        return [line.seconds or 0.0 for line in lines[:3]]

    short, long = seconds(config, 10_000), seconds(config, 30_000)
    assert all(a < b for a, b in zip(short, long, strict=True))
    more = seconds(configuration.changed(config, ["site.rollout.elements=32", "site.train.nodes=8"]), 30_000)
    assert more[0] < long[0] and more[2] < long[2]
