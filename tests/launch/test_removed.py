"""Whatever nothing needs any more may be removed by hand: a finished run stays finished, and says the same."""

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from unplayed_run import WORDS

from aworld import caches
from aworld import config as configuration
from aworld.config import Config
from aworld.launch.plan import discard_damaged, plan
from aworld.launch.prepare import prepare
from aworld.launch.start import start
from aworld.locks import try_to_hold
from aworld.phase import Phase
from aworld.publish import append_json, publish_folder, publish_json, publish_text
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import Workload, schedule
from aworld.rundir import RunDir, open_run
from aworld.stages import REPORT
from aworld.tasks import make_source
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal
from aworld.trajectories.timing import publish_timing
from aworld.watch.overview import FINISHED, show_status

pytestmark = pytest.mark.unit
SETTINGS = ["pipeline.rounds=3", "rollout.tasks_per_round=2", "rollout.group_size=2", "evaluation.attempts=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of a cold start and three rounds, written as the stages do. Only the weights are none."""
    folder = tmp_path_factory.mktemp("finished")
    config = configuration.load([*WORDS, *SETTINGS, f"runs={folder}", "name=run"])
    publish_folder(RunDir.of(config).base, weights)
    run, source = prepare(config)
    for workload in schedule(config, run, source):
        play(run, workload)
    for number in range(4):
        publish_folder(run.policy(number), weights)
        publish_json(run.round(number) / "metrics.json", {"reward": 0.5, "seconds": {"wait": 1.0, "train": 1.0}})
        append_json(run.round(number) / "steps.jsonl", {"step": 1, "of": 1, "loss": 0.5})
        if number:
            publish_folder(run.checkpoints / f"round-{number:04d}", weights)
    compiled = folder / "compiled"
    publish_text(compiled / "triton" / "kernel", "code")
    caches.keep(compiled, run.caches / "vllm-0123.tar")
    publish_folder(run.root / "copies" / "node" / "policies" / "00000000" / "0002-00000000", weights)
    publish_text(run.logs / "1_0_log.out", "said")
    publish_text(run.root / "dry-run" / "run.yaml", "")
    append_json(run.starts / "train.jsonl", {"job": "", "restart": 0, "progress": {}, "time": 0.0})
    with try_to_hold(run.lock("rollout-0")):
        pass
    look(config, run)  # which notes what the rounds came to
    return run


@pytest.fixture(scope="module")
def configs(finished: RunDir) -> list[Config]:
    """The run's own configuration, and those of a resume on Slurm in either mode."""
    config, _ = open_run(finished.root)
    modes = ("batch", "resident")
    return [config, *(configuration.changed(config, ["site=example", f"pipeline.mode={mode}"]) for mode in modes)]


@pytest.fixture
def run(finished: RunDir, tmp_path: Path) -> RunDir:
    """A copy to remove from."""
    shutil.copytree(finished.root, tmp_path / "run", symlinks=True)
    return RunDir(tmp_path / "run")


def weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


def play(run: RunDir, workload: Workload) -> None:
    claims = claims_of(workload, "worker-0", 60.0)
    seconds = {"generate": 5.0, "tools": 1.0, "total": 6.0}
    found = [
        Episode(workload.round, unit.task_id, n, 1, "?", [1], [1], [-0.5], [], "x", float(n), "answered", seconds, 0, n)
        for unit in units(workload)
        for n in unit.attempts
    ]
    with Journal(workload.folder / "journals" / "worker-0.journal") as log:
        for episode in found:
            log.append(episode)
    for unit in units(workload):
        claims.mark_done(unit)
    append_json(workload.folder / "timing.jsonl", {"worker": 0, "began": 1.0, "load_seconds": 1.0, "ended": 9.0})
    publish_timing(workload.folder, 1.0)
    if workload.phase is not Phase.EVALUATION:
        file.write(run.trajectories(workload.round), arrays.from_episodes(workload.round, found))


def look(config: Config, run: RunDir) -> str:
    """What `aworld status` prints below the run's name."""
    out = StringIO()
    assert show_status(config, run, Console(file=out, width=200)) == FINISHED
    return out.getvalue().partition("\n")[2]


def left(configs: list[Config], run: RunDir) -> list[str]:
    """The stages that a resume would do, on this machine and on Slurm in either mode."""
    config = configs[0]
    workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    discard_damaged(run, workloads)
    return [stage.name for each in configs for stage in plan(each, run, workloads) if stage.kind != REPORT]


REMOVABLE: dict[str, Callable[[RunDir], list[Path]]] = {
    "old policies": lambda run: [run.policy(1), run.policy(2)],
    "old checkpoints": lambda run: [run.checkpoints / "round-0001", run.checkpoints / "round-0002"],
    "all checkpoints": lambda run: [run.checkpoints],
    "journals of gathered rounds": lambda run: [run.round(number) / "journals" for number in range(4)],
    "notes of finished rounds": lambda run: [run.root / "rounds" / "finished.jsonl"],
    "notes of finished evaluations": lambda run: [run.root / "evals" / "held-out" / "finished.jsonl"],
    "compiled code": lambda run: [run.caches],
    "copies of nodes": lambda run: [run.root / "copies"],
    "logs": lambda run: [run.logs],
    "starts": lambda run: [run.starts],
    "locks": lambda run: [run.root / "locks"],
    "scripts of a dry run": lambda run: [run.root / "dry-run"],
}


def remove(run: RunDir, what: str) -> None:
    for path in REMOVABLE[what](run):
        assert path.exists(), f"{path} is not there: the test would remove nothing"
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("what", REMOVABLE)
def test_a_finished_run_stays_finished_without(what: str, run: RunDir, finished: RunDir, configs: list[Config]) -> None:
    remove(run, what)
    assert look(configs[0], run) == look(configs[0], finished)
    assert left(configs, run) == []


def test_without_all_of_it_a_resume_makes_only_the_report(run: RunDir, finished: RunDir, configs: list[Config]) -> None:
    for what in REMOVABLE:
        if what != "old checkpoints":  # among all of them
            remove(run, what)
    assert (look(configs[0], run), left(configs, run)) == (look(configs[0], finished), [])
    config, _ = open_run(run.root)
    start(config, Console(file=StringIO()))
    assert not run.jobs.exists() and run.policies() == [0, 3] and not run.checkpoints.exists()
    assert (run.root / "report.html").exists()


@pytest.mark.parametrize(("path", "work"), [("policies/0003", "train"), ("evals/held-out/0003", "rollout")])
def test_what_a_run_is_for_is_made_again(path: str, work: str, run: RunDir, configs: list[Config]) -> None:
    """The same question has another answer where something is removed that is needed."""
    shutil.rmtree(run.root / path)
    assert any(name.startswith(work) for name in left(configs, run))
