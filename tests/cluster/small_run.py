"""Small runs on a test cluster: start them as a user does, disturb them, and hold what has to be true in the end."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from aworld import config as configuration
from aworld.launch import slurm
from aworld.rollout.workload import Workload, round_workload, schedule
from aworld.rundir import RunDir, is_complete
from aworld.tasks import make_source
from aworld.trajectories import file, journal

ROOT = Path(__file__).parents[2]
# The policy learns its few tasks by heart, so that GRPO has rewards of both kinds to work with.
WORDS = """
    recipe=demo site=test-cluster tasks.train=16 tasks.held_out=6 evaluation.attempts=2
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks=16 training.cold_start.epochs=100 training.cold_start.batch_size=8
    training.cold_start.stop_at=0.4 training.cold_start.lr=5e-3
    rollout.tasks_per_round=8 rollout.group_size=4 training.batch_size=8 environment.slots=2 rollout.lease_seconds=15
""".split()


@dataclass(frozen=True)
class Run:
    """A run directory and what a person does with it."""

    dir: RunDir

    @property
    def config(self) -> configuration.Config:
        return configuration.read(self.dir.config)

    def workloads(self) -> list[Workload]:
        config = self.config
        return schedule(config, self.dir, make_source(config.tasks, self.dir.tasks))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return aworld(words[0], str(self.dir.root), *words[1:])

    def launch(self, stage: str, number: int, *words: str) -> None:
        """`python jobs/STAGE.py RUN …`, which submits it and returns."""
        option = "--policy" if stage == "evaluate" else "--round"
        done = python(f"jobs/{stage}.py", str(self.dir.root), option, str(number), *words)
        assert done.returncode == 0, done.stderr

    def job(self, stage: str) -> str:
        """The id of the newest job of a stage."""
        return [s.job for s in slurm.submissions(self.dir) if s.stage == stage][-1]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not come; {self.last_words()}"
            time.sleep(0.1)

    def wait_for_jobs(self, seconds: float = 300) -> None:
        self.wait_for(lambda: not slurm.alive(self.dir), "the end of all jobs", seconds)

    def episodes(self, number: int) -> int:
        return sum(len(journal.load(path).episodes) for path in (self.dir.round(number) / "journals").glob("*.journal"))

    def restarts(self, name: str) -> int:
        """The most that a task of this stage was restarted by Slurm."""
        paths = self.dir.starts.glob(f"{name}*.jsonl")
        starts = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return max((start["restart"] for start in starts), default=0)

    def last_words(self) -> str:
        logs = sorted(self.dir.logs.glob("*_log.out"), key=lambda path: path.stat().st_mtime)[-4:]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def aworld(*words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "aworld", *words)


def prepare(runs: Path, *words: str) -> Run:
    done = aworld("prepare", *WORDS, f"runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    return Run(RunDir(Path(done.stdout.strip())))


def copy(run: Run, to: Path) -> Run:
    """The same run elsewhere, as if it had always been there."""
    shutil.copytree(run.dir.root, to, symlinks=True)
    return Run(RunDir(to))


def lost_and_doubled(run: Run) -> tuple[int, int]:
    """Of all (round, task, attempt) that a run asked for: how many are missing, and how many are there twice."""
    lost = doubled = 0
    for workload in run.workloads():
        wanted = {(task.task_id, attempt) for task in workload.tasks for attempt in range(workload.attempts)}
        if workload.publishes:
            rows = file.read(run.dir.trajectories(workload.round)).episodes
            found = [(row["task_id"].decode(), int(row["attempt"])) for row in rows]
        else:
            found = [(e.task_id, e.attempt) for e in journal.collect(workload.folder / "journals")]
        lost += len(wanted - set(found))
        doubled += len(found) - len(set(found))
    return lost, doubled


def assert_round_is_whole(run: Run, number: int) -> None:
    """Every (task, attempt) that was asked for is gathered once, and the file's checksums are right."""
    config = run.config
    workload = round_workload(config, run.dir, make_source(config.tasks, run.dir.tasks), number)
    trajectories = file.read(run.dir.trajectories(number))
    found = [(row["task_id"].decode(), int(row["attempt"])) for row in trajectories.episodes]
    assert len(found) == len(set(found))
    assert set(found) == {(task.task_id, attempt) for task in workload.tasks for attempt in range(workload.attempts)}
    assert b"infra_error" not in set(trajectories.episodes["status"])
    assert np.isfinite(trajectories.logprobs).all()


def assert_whole(run: Run) -> None:
    """The same of every round and evaluation of a finished run; its policies are complete."""
    for workload in run.workloads():
        if workload.publishes:
            assert_round_is_whole(run, workload.round)
            assert is_complete(run.dir.policy(workload.round))
            continue
        found = [(e.task_id, e.attempt) for e in journal.collect(workload.folder / "journals")]
        assert len(found) == len(set(found))
        assert set(found) == {(task.task_id, a) for task in workload.tasks for a in range(workload.attempts)}


def assert_trained_as_if_undisturbed(run: Run, last: int, scratch: Path) -> None:
    """Training once more on the same trajectories, undisturbed and elsewhere, gives the same policies bit for bit."""
    again = copy(run, scratch / "undisturbed")
    for folder in ("policies", "checkpoints", "starts"):
        shutil.rmtree(again.dir.root / folder, ignore_errors=True)
    for number in range(last + 1):
        done = again.command("train", "--round", str(number))
        assert done.returncode == 0, done.stderr
        one, other = (load_file(r.dir.policy(number) / "model.safetensors") for r in (run, again))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), f"policy {number} differs"
    assert any((run.dir.round(number) / "steps.jsonl").exists() for number in range(1, last + 1)), "GRPO made no step"
