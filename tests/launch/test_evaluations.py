"""Evaluations that hang off every k-th policy: what is planned, refused, shown, and how a job waits for a policy."""

import json
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from hf_folder import hf_folder
from rich.console import Console
from unplayed_run import WORDS, aworld

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InputError
from aworld.launch import dag, evaluations
from aworld.launch.local import Member, _is_due
from aworld.launch.plan import plan
from aworld.launch.prepare import prepare
from aworld.launch.start import dry_run
from aworld.publish import publish_folder, publish_json, publish_text
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, TRAIN, Stage
from aworld.tasks import make_source
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal
from aworld.watch.overview import STOPPED, show_status

pytestmark = pytest.mark.unit
GAIA = "environment.servers=[python]"


@pytest.fixture
def gaia(tmp_path: Path) -> Path:
    """A made-up copy: a question of the validation split, and one of the test split, whose answer is withheld."""
    for split, answer in (("validation", "4"), ("test", "?")):
        folder = tmp_path / "GAIA" / "2023" / split
        folder.mkdir(parents=True)
        row = {"task_id": split, "Question": "?", "Level": 1, "Final answer": answer, "file_name": ""}
        (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "GAIA"


@pytest.fixture
def words(tmp_path: Path, gaia: Path) -> list[str]:
    """A run of five rounds whose policies 0, 2, 4 and 5 are evaluated."""
    named = f"pipeline.evaluations=[held-out, 'gaia-validation tasks.path={gaia} {GAIA}']"
    model = hf_folder(tmp_path / "model", configuration.load(WORDS).model.architecture)  # nobody loads it
    rounds = ["pipeline.rounds=5", "pipeline.evaluate_every=2"]
    return [*WORDS, f"runs={tmp_path}", "name=run", f"model.path={model}", *rounds, named]


def stages(words: list[str]) -> dict[str, tuple[str, ...]]:
    """The names of the stages before each stage; none may come later in the plan than what depends on it."""
    config = configuration.load(words)
    run = RunDir.of(config)
    source = make_source(config.tasks, run.root.parent / "generated")
    found = plan(config, run, [*schedule(config, run, source), *evaluations.workloads(config, run)])
    names = [stage.name for stage in found]
    for at, stage in enumerate(found):
        assert set(stage.after) <= set(names[:at])
    return {stage.name: stage.after for stage in found if stage.name != "report"}


def test_in_batch_mode_each_evaluation_depends_on_the_training_of_its_policy(words: list[str]) -> None:
    found = stages([*words, "site=example", "pipeline.mode=batch", "pipeline.max_lag=1"])
    assert {name: after for name, after in found.items() if name.startswith(("evaluate", "await"))} == {
        "evaluate-0000": ("train-0000",),
        "evaluate-0002": ("train-0002",),
        "evaluate-0004": ("train-0004",),
        "evaluate-0005": ("train-0005",),
        "evaluate-gaia-validation-0000": ("train-0000",),
        "evaluate-gaia-validation-0002": ("train-0002",),
        "evaluate-gaia-validation-0004": ("train-0004",),
        "evaluate-gaia-validation-0005": ("train-0005",),
    }
    assert found["rollout-0003"] == ("train-0001",)  # no round waits for an evaluation


def test_in_resident_mode_a_job_waits_for_each_policy_and_the_benchmarks_depend_on_it(words: list[str]) -> None:
    resident = [*words, "site=example", "pipeline.mode=resident"]
    assert stages(resident) == {
        "rollout": (),  # plays the held-out tasks as well
        "train": (),
        "await-0000": (),
        "evaluate-gaia-validation-0000": ("await-0000",),
        "await-0002": ("await-0000",),
        "evaluate-gaia-validation-0002": ("await-0002",),
        "await-0004": ("await-0002",),
        "evaluate-gaia-validation-0004": ("await-0004",),
        "await-0005": ("await-0004",),
        "evaluate-gaia-validation-0005": ("await-0005",),
    }
    run = RunDir.of(configuration.load(resident))
    for version in (0, 1, 2):
        publish_folder(run.policy(version), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    finish(run, 0)
    assert stages(resident) == {
        "rollout": (),
        "train": (),
        "evaluate-gaia-validation-0002": (),
        "await-0004": (),
        "evaluate-gaia-validation-0004": ("await-0004",),
        "await-0005": ("await-0004",),
        "evaluate-gaia-validation-0005": ("await-0005",),
    }


def test_a_resident_run_submits_the_evaluations_of_a_few_policies_ahead(words: list[str]) -> None:
    few = [*words, "site=example", "pipeline.mode=resident", "pipeline.submit_ahead=2"]
    waits = {
        "await-0000": (),
        "submit-0000": ("await-0000",),
        "evaluate-gaia-validation-0000": ("await-0000",),
        "await-0002": ("await-0000",),
        "submit-0002": ("await-0002",),
        "evaluate-gaia-validation-0002": ("await-0002",),
    }
    assert stages(few) == {"rollout": (), "train": (), **waits}
    alone = stages([*few, "site.jobs_may_submit=false"])
    assert alone.keys() == stages(few).keys() - {"submit-0000", "submit-0002"}
    run = RunDir.of(configuration.load(few))
    for version in (0, 1, 2):
        publish_folder(run.policy(version), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    last = set(stages(few)) - {"rollout", "train"}
    assert last == {"await-0004", "await-0005", *(f"evaluate-gaia-validation-000{n}" for n in (0, 2, 4, 5))}


def test_what_a_resident_run_has_ahead_is_said(words: list[str]) -> None:
    few = configuration.load([*words, "site=example", "pipeline.mode=resident", "pipeline.submit_ahead=2"])
    run, source = prepare(configuration.load(words))
    work = [*schedule(few, run, source), *evaluations.workloads(few, run)]
    told = "evaluations of policies 0 to 2 of 5 are submitted; a policy that is made submits later ones"
    assert dag.ahead(few, run, plan(few, run, work)) == told
    whole = configuration.changed(few, ["pipeline.submit_ahead=4"])
    assert dag.ahead(whole, run, plan(whole, run, work)) == ""


def finish(run: RunDir, version: int) -> None:
    """As the workers of an evaluation on the one question do."""
    folder = run.evaluation("gaia-validation", version)
    Claims(folder / "claims", "worker-0", 60.0).mark_done(Unit("validation", (0, 1)))
    with Journal(folder / "journals" / "worker-0.journal") as log:
        for attempt in range(2):
            log.append(Episode(version, "validation", attempt, 1, "?", [], [], [], [], "4", 1.0, "answered", {}, 0, 0))
    publish_json(folder / "timing.json", {})


def test_on_one_machine_an_evaluation_starts_with_its_policy(words: list[str]) -> None:
    assert list(stages(words)) == ["rollout", "train", *(f"evaluate-gaia-validation-000{n}" for n in (0, 2, 4, 5))]
    config = configuration.load(words)
    run = RunDir.of(config)
    kinds = (Stage.of(TRAIN, config, run), Stage.of(EVALUATE, config, run, 2, "gaia-validation"))
    trainer, evaluation = crew = [Member(stage, config, run, []) for stage in kinds]
    assert _is_due(trainer, crew) and not _is_due(evaluation, crew)
    publish_folder(run.policy(2), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    assert _is_due(evaluation, crew)


def test_a_policy_that_was_removed_holds_nobody_up(words: list[str]) -> None:
    resident = [*words, "site=example", "pipeline.mode=resident"]
    run, _ = prepare(configuration.load(words))
    for version in (0, 3):
        publish_folder(run.policy(version), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    assert not run.lacks(0) and run.lacks(2) and not run.lacks(4)
    assert [name for name in stages(resident) if "2" in name] == []
    done = aworld("await", str(run.root), "--policy", "2")
    assert done.returncode == 2 and f"policy 2 is gone; make it anew: aworld train {run.root} --round 2" in done.stderr


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("[held_out]", "no tasks 'held_out'; .*tasks has gaia-test, .*; or held-out, the run's own tasks"),
        ("[held-out, held-out]", "held-out is there twice"),
        ("[held-out evaluation.attempts=9]", "held-out has the run's settings"),
        ("['']", "'' is not NAME KEY=VALUE"),
        ("[{synthetic: tasks.seed=7}]", "is not NAME KEY=VALUE"),
        ("[synthetic tasks.split=other]", "tasks.split=other is another benchmark; name that one"),
        ("[synthetic evaluation.attemps=4]", "pipeline.evaluations: synthetic: .*no key 'evaluation.attemps'"),
        ("[gaia-validation]", "name the folder of a local copy of GAIA"),
        ("[gaia-validation tasks.path=/nowhere]", "no metadata.parquet or metadata.jsonl in /nowhere"),
        ("[synthetic training.lr=1]", "training.lr=1 is none of tasks.…, environment.…, agent.…, evaluation.…; set it"),
        ("[synthetic tasks=gaia-test]", "tasks=gaia-test is none of"),
        ("[synthetic agent.max_tokens=512]", "agent.max_tokens=512 does not fit beside a prompt"),
        ("[synthetic tasks.train=1 tasks.held_out=0]", "has no tasks to evaluate on"),
    ],
)
def test_an_evaluation_that_cannot_be_played_is_refused_before_anything_is_launched(
    words: list[str], named: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dry(configuration.load([*words, f"pipeline.evaluations={named}"]))


def test_a_file_of_tasks_of_ones_own_is_read_once_the_run_has_begun_from_the_run(
    words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "ours" / "tasks" / "ours.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("source: synthetic\nseed: 77\ntrain: 1\nheld_out: 3\n")
    config = configuration.load([*words, "pipeline.evaluations=[ours evaluation.attempts=1]"], tmp_path / "ours")
    assert "evaluate-ours-0004-0: " in dry(config)
    run, _ = prepare(config)
    file.unlink()
    own = evaluations.configurations(configuration.read(run.config), run)["ours"]
    assert (own.tasks.seed, own.tasks.held_out, own.evaluation.attempts) == (77, 3, 1)
    assert aworld("plan", str(run.root)).returncode == 0
    with pytest.raises(InputError, match=f"no tasks '{file}': {file} is not there; mend the path"):
        dry(configuration.changed(config, ["name=another"]))


def dry(config: Config) -> str:
    out = StringIO()
    dry_run(config, Console(file=out, width=200))
    return out.getvalue()


def test_gaia_is_trained_on_only_by_those_who_say_so_and_then_measures_nothing(words: list[str], gaia: Path) -> None:
    own = [word for word in words if not word.startswith(("tasks.", "training.cold_start", "pipeline.evaluations"))]
    own += ["tasks=gaia-validation", f"tasks.path={gaia}", GAIA, "training.cold_start.tasks=0"]
    told = r"tasks\.source=gaia has no training tasks; .* or say tasks\.purpose=train"
    with pytest.raises(InputError, match=told):
        dry(configuration.load(own))
    own.append("tasks.purpose=train")
    with pytest.raises(InputError, match=r"no tasks to evaluate on; name others, .*gaia-test"):
        dry(configuration.load(own))
    measured = f"pipeline.evaluations=[gaia-validation tasks.path={gaia}]"
    with pytest.raises(InputError, match=r"the run trains on split validation of tasks\.source=gaia"):
        dry(configuration.load([*own, measured]))
    own.append(measured.replace("validation", "test"))
    assert "evaluate-gaia-test-0002-0: " in dry(configuration.load(own))
    with pytest.raises(InputError, match="the answers of GAIA's split test are withheld"):
        dry(configuration.load([*own, "tasks.split=test"]))


def test_a_person_cannot_measure_on_what_a_run_trains_on_either(tmp_path: Path, gaia: Path) -> None:
    words = ["recipe=demo", "site=local", f"runs={tmp_path}", "name=run", "tasks=gaia-validation", GAIA]
    config = configuration.load([*words, f"tasks.path={gaia}", "tasks.purpose=train"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    publish_folder(run.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    command = [sys.executable, "jobs/evaluate.py", str(run.root), "--policy", "0", "tasks=gaia-validation"]
    command.append(f"tasks.path={gaia}")
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "so a figure on it measures nothing; evaluate on another" in done.stderr


def shown(config: Config, run: RunDir) -> dict[str, list[str]]:
    """The rows of `aworld status`, by their first word."""
    out = StringIO()
    assert show_status(config, run, Console(file=out, width=200)) == STOPPED
    assert "stopped; go on with: aworld resume" in out.getvalue()
    return {line.split()[0]: line.split()[1:] for line in out.getvalue().splitlines() if line.split()}


def test_planned_evaluations_are_in_the_status_and_keep_the_settings_they_were_played_with(words: list[str]) -> None:
    config = configuration.load(words)
    prepare(configuration.load([*words, "seed=3"]))  # of which nothing began
    run, _ = prepare(config)
    kept = configuration.read(run.benchmark("gaia-validation"))
    assert (kept.tasks.split, kept.environment.servers, kept.evaluation.attempts) == ("validation", ["python"], 2)
    publish_folder(run.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    finish(run, 0)
    rows = shown(config, run)
    assert {*(f"held-out-{n}" for n in (0, 2, 4, 5)), *(f"gaia-validation-{n}" for n in (0, 2, 4, 5))} <= rows.keys()
    assert rows["gaia-validation-2"] == ["waiting"]
    assert rows["gaia-validation-0"] == ["1", "done", "2", "1.000"] or rows["gaia-validation-0"] == [
        "done",
        "2",
        "1.000",
    ]
    other = [word.replace("tasks.path", "agent.max_turns=9 tasks.path") for word in words]
    with pytest.raises(InputError, match=r"gaia-validation was begun with agent\.max_turns=6, now it is 9"):
        prepare(configuration.load(other))
    more = [word.replace("tasks.path", "evaluation.attempts=3 tasks.path") for word in words]
    prepare(configuration.load(more))
    prepare(config)  # attempts that were asked for stay
    assert configuration.read(run.benchmark("gaia-validation")).evaluation.attempts == 3


def awaiting(run: RunDir) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aworld", "await", str(run.root), "--policy", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run.starts / "await-0002.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


def test_a_job_that_waits_for_a_policy_ends_with_it_or_comes_back(words: list[str]) -> None:
    run, _ = prepare(configuration.load(words))
    with awaiting(run) as told:
        time.sleep(1)
        told.send_signal(signal.SIGUSR2)
        _, said = told.communicate(timeout=30)
    assert (told.returncode, "told to end while waiting for policy 2" in said) == (75, True)
    publish_text(run.config, run.config.read_text().replace("wait_seconds: 900.0", "wait_seconds: 0.5"))
    done = aworld("await", str(run.root), "--policy", "2")
    assert done.returncode == 4 and "no policy 2 yet, and nothing got on for 0 s" in done.stderr
    publish_text(run.config, run.config.read_text().replace("wait_seconds: 0.5", "wait_seconds: 900.0"))
    with awaiting(run) as waits:
        assert waits.poll() is None
        publish_folder(run.policy(2), lambda folder: (folder / "model.safetensors").write_bytes(b""))
        assert waits.wait(30) == 0
