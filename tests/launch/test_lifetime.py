"""What a task of a job does when it begins: it counts, and a second trainer waits for the first."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config, Resources
from aworld.errors import TaskError
from aworld.evaluation import benchmark
from aworld.launch.lifetime import begin
from aworld.publish import publish_folder
from aworld.rundir import RunDir
from aworld.stages import AWAIT, EVALUATE, GATHER, ROLLOUT, TRAIN, Kind, Stage

pytestmark = pytest.mark.unit


def first(kind: Kind, run: RunDir) -> Stage:
    """The first task of a stage of round 1."""
    return Stage(kind, run, Resources(), 1, task=0)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """In a job of a batch script of ours."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("AWORLD_JOB", str(tmp_path / "starts" / "7"))
    return configuration.load(["recipe=demo"])


def test_the_third_begin_in_a_row_without_progress_is_the_last(config: Config, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for _ in range(2):
        begin(config, first(ROLLOUT, run))
    (run.round(1) / "journals").mkdir(parents=True)
    (run.round(1) / "journals" / "worker-0.journal").write_text("an episode")  # it gets on
    for _ in range(2):
        begin(config, first(ROLLOUT, run))
    with pytest.raises(
        TaskError, match=r"rollout-0001-0 of job 7 began 3 times while the run did not get on with it; .* aworld resume"
    ):
        begin(config, first(ROLLOUT, run))


def test_a_job_that_only_waits_may_come_back_without_progress(config: Config, tmp_path: Path) -> None:
    for _ in range(9):
        begin(config, first(AWAIT, RunDir(tmp_path)))


def test_without_restarts_a_job_still_begins_once(config: Config, tmp_path: Path) -> None:
    config.pipeline.max_restarts = 0
    begin(config, first(ROLLOUT, RunDir(tmp_path)))
    with pytest.raises(TaskError, match="began 2 times"):
        begin(config, first(ROLLOUT, RunDir(tmp_path)))


def test_another_job_begins_its_own_count(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in ("7", "8"):  # as after a resume
        monkeypatch.setenv("SLURM_JOB_ID", job)
        for _ in range(2):
            begin(config, first(TRAIN, RunDir(tmp_path)))


def test_generated_tasks_of_a_benchmark_are_no_policy(config: Config, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    config.tasks.held_out = config.tasks.train = 2
    benchmark.begin(config, run, "other", 0)
    resident = [Stage.of(kind, config, run) for kind in (ROLLOUT, TRAIN)]
    for stage in (Stage.of(EVALUATE, config, run, 0, "other"), *resident):
        begin(config, stage.task_of(0))


def test_an_allocation_that_a_person_works_in_counts_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in salloc, where each command tells its own reason however often it fails."""
    monkeypatch.delenv("AWORLD_JOB")
    for _ in range(5):
        begin(config, first(GATHER, RunDir(tmp_path)))


def test_a_task_that_begins_ends_the_count_of_starts_without_one(config: Config, tmp_path: Path) -> None:
    tries = tmp_path / "starts" / "7.tries"
    tries.parent.mkdir()
    tries.write_text("node1\nnode1\n")
    begin(config, first(ROLLOUT, RunDir(tmp_path)))
    assert not tries.exists()


@pytest.mark.parametrize(("words", "code"), [(["status", "/nowhere"], "2\n"), (["show", "--help"], None)])
def test_a_task_with_bad_input_tells_its_batch_script(
    config: Config, tmp_path: Path, words: list[str], code: str | None
) -> None:
    (tmp_path / "starts").mkdir()
    subprocess.run([sys.executable, "-m", "aworld", *words], capture_output=True, check=False)
    told = tmp_path / "starts" / "7.code"
    assert (told.read_text() if told.exists() else None) == code


def test_what_others_make_is_no_progress_of_a_stage(config: Config, tmp_path: Path) -> None:
    """A trainer that crashes each time is stopped while an evaluation of an earlier policy gets on."""
    run = RunDir(tmp_path)
    journal = run.evaluation("held-out", 0) / "journals" / "worker-0.journal"
    journal.parent.mkdir(parents=True)

    def begin_often(stage: Stage) -> None:
        for count in range(3):
            journal.write_text("episode" * len(stage.name) * (count + 1))
            begin(config, stage)

    begin_often(Stage(TRAIN, run, Resources(), task=0))  # one that waits for others lives by them
    with pytest.raises(TaskError, match="began 3 times"):
        begin_often(Stage(TRAIN, run, Resources(), 2, task=0))
    third = Stage(TRAIN, run, Resources(), 3, task=0)
    begin(config, third)
    begin(config, third)
    publish_folder(run.checkpoints / "round-0003-step-00004", lambda folder: (folder / "shard").write_text("saved"))
    begin(config, third)


def test_a_job_is_put_back_so_often_and_no_more(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.pipeline.max_requeues = 5
    run = RunDir(tmp_path)
    for restart in range(7):
        (run.round(1) / "journals").mkdir(parents=True, exist_ok=True)
        (run.round(1) / "journals" / "worker-0.journal").write_text("x" * restart)  # it always gets on
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        if restart <= 5:
            begin(config, first(ROLLOUT, run))
        else:
            with pytest.raises(TaskError, match="job 7 was put back into the queue 6 times; go on with: aworld resume"):
                begin(config, first(ROLLOUT, run))


HOLDER = """
    import sys
    from pathlib import Path
    from aworld.launch.lifetime import sole_trainer
    from aworld.errors import guarded
    from aworld.rundir import RunDir
    def train():
        with sole_trainer(RunDir(Path(sys.argv[1])).lock("train"), 0.1):
            print("training", flush=True)
            sys.stdin.readline()
    sys.exit(guarded(train))
"""
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def copy(tmp_path: Path) -> Start:
    """Start the first task of a training job."""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)],
            env={**os.environ, "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize("end", ["first ends", "first is killed", "signal"])
def test_a_second_trainer_waits_for_the_first(copy: Start, end: str) -> None:
    first = copy()
    assert first.stdout and first.stdout.readline() == "training\n"
    second = copy()
    assert second.stdout
    said = second.stdout.readline()
    assert said.startswith(f"process {first.pid} on node {os.uname().nodename} trains this run already")
    assert "waiting for its end" in said
    time.sleep(1.5)
    assert second.poll() is None
    if end == "first is killed":
        first.kill()
    if end == "signal":
        second.send_signal(signal.SIGUSR2)
    else:
        first.communicate("done\n" if end == "first ends" else None)
    _, complaint = second.communicate(timeout=30)
    assert second.returncode == 75  # back into the queue
    assert ("told to end while waiting" if end == "signal" else "the other copy has ended; job 7 begins") in complaint
    if end == "signal":
        assert first.poll() is None
        first.communicate("done\n")
