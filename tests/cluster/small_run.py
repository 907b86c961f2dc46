"""Small runs on a test cluster: start them as a user does, disturb them, and hold what has to be true in the end."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cluster import Cluster
from safetensors.torch import load_file

from aworld import config as configuration
from aworld import slurm
from aworld.errors import InfrastructureError
from aworld.policies.reading import copy_policy
from aworld.publish import damaged, is_complete, publish_text, read_jsonl
from aworld.rollout.worker import episode_seed
from aworld.rollout.workload import Workload, round_workload, schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories import file, journal
from aworld.watch.queue import elements_alive, queue, submissions

ROOT = Path(__file__).parents[2]
# The policy learns its few tasks by heart, so that GRPO has rewards of both kinds to work with.
WORDS = """
    recipe=demo site=test-cluster tasks.train=16 tasks.held_out=6 evaluation.attempts=2
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks=16 training.cold_start.epochs=100 training.cold_start.batch_size=8
    training.cold_start.stop_at=0.4 training.cold_start.lr=5e-3
    rollout.tasks_per_round=8 rollout.group_size=4 training.batch_size=8 environment.slots=2 rollout.lease_seconds=15
    site.evaluate.elements=1
""".split()

NO_IMAGES = ["site.images.environment=''", "site.images.vllm=''", "site.images.megatron=''", "site.scratch=''"]


@dataclass(frozen=True)
class Run:
    """A run directory and what a person does with it."""

    dir: RunDir

    @property
    def config(self) -> configuration.Config:
        return configuration.read(self.dir.config)

    def change(self, *overrides: str) -> None:
        """Change its configuration as no user may, before it goes on."""
        self.dir.config.write_text(configuration.to_yaml(configuration.changed(self.config, list(overrides))))

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
        return [s.job for s in submissions(self.dir) if s.stage == stage][-1]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 600, every: float = 0.2) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not come; {self.last_words()}"
            time.sleep(every)

    def wait_for_jobs(self, seconds: float = 900) -> None:
        def ended() -> bool:
            hurry()
            return not alive(self.dir)

        self.wait_for(ended, "the end of all jobs", seconds, every=1)

    def episodes(self, number: int) -> int:
        return sum(
            len(journal.list_entries(path).entries) for path in (self.dir.round(number) / "journals").glob("*.journal")
        )

    def starts(self, name: str) -> list[dict[str, Any]]:
        """When and where the tasks of this stage began."""
        return [start for path in sorted(self.dir.starts.glob(f"{name}*.jsonl")) for start in read_jsonl(path)]

    def restarts(self, name: str) -> int:
        """The most that a task of this stage was restarted by Slurm."""
        return max((start["restart"] for start in self.starts(name)), default=0)

    def last_words(self) -> str:
        logs = sorted(self.dir.logs.glob("*_log.out"), key=lambda path: path.stat().st_mtime)[-4:]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)


def alive(run: RunDir) -> dict[str, dict[int, str]]:
    """The elements of each stage that squeue shows now."""
    return elements_alive(queue(run))


def hurry() -> None:
    """Let requeued jobs begin soon: Slurm would have them wait until their credentials have expired."""
    soon = datetime.now() + timedelta(seconds=5)
    shown = "--Format=JobArrayID:|,Reason:|,EligibleTime"
    for line in slurm.ask("squeue", "--noheader", "--array", "--states=PENDING", shown).splitlines():
        job, reason, eligible = map(str.strip, line.split("|"))
        if reason == "BeginTime" and eligible != "N/A" and datetime.fromisoformat(eligible) > soon:
            with suppress(InfrastructureError):  # it has just begun
                slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")  # not in the second of the old one


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def aworld(*words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "aworld", *words)


def prepare(runs: Path, *words: str) -> Run:
    done = aworld("prepare", *WORDS, f"runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    return Run(RunDir(Path(done.stdout.strip())))


def submit(runs: Path, name: str, *words: str) -> Run:
    """A run that `python jobs/pipeline.py` has begun; that does not wait for it."""
    done = python("jobs/pipeline.py", *WORDS, f"runs={runs}", f"name={name}", *words)
    assert done.returncode == 0, done.stderr
    return Run(RunDir(runs / name))


def copy(run: Run, to: Path) -> Run:
    """The same run elsewhere, as if it had always been there."""
    shutil.copytree(run.dir.root, to, symlinks=True)
    return Run(RunDir(to))


def asked_for(workload: Workload) -> set[tuple[str, int]]:
    return {(task.task_id, attempt) for task in workload.tasks for attempt in range(workload.attempts)}


def evaluated(run: Run, workload: Workload) -> set[tuple[str, int]]:
    """The (task, attempt) of every record of an evaluation, each journal read by itself.

    A kill may have one played twice, with the same seed; the report's figures count it once.
    """
    records = [e for path in (workload.folder / "journals").glob("*.journal") for e in journal.read(path)]
    seed = run.config.seed
    for e in records:
        assert e.policy_version == workload.round
        assert e.seed == episode_seed(seed, workload.round, e.task_id, e.attempt)
    return {(e.task_id, e.attempt) for e in records}


def reported(run: Run) -> dict[int, int]:
    """By evaluated policy: how many attempts count in the report's figures, right or wrong."""
    made = run.command("report")
    assert made.returncode == 0, made.stderr
    figures = json.loads((run.dir.root / "report.json").read_text())["evaluation"]
    parts = {0: figures["before"], run.config.pipeline.rounds: figures["after"]}
    return {
        version: round(part["pass_at_1"] * part["n_tasks"] * part["attempts"])
        + sum(n for status, n in part["failures"].items() if status != "missing")
        for version, part in parts.items()
    }


def lost_and_doubled(run: Run) -> tuple[int, int]:
    """Of all (round, task, attempt) that a run asked for: how many are missing, and how many count twice."""
    lost = doubled = 0
    counts = reported(run)
    for workload in run.workloads():
        if workload.phase.is_trained_on:
            rows = file.read(run.dir.trajectories(workload.round)).episodes
            found = {(row["task_id"].decode(), int(row["attempt"])) for row in rows}
            counted = len(rows)
        else:
            found, counted = evaluated(run, workload), counts[workload.round]
        lost += len(asked_for(workload) - found)
        doubled += counted - len(found)
    return lost, doubled


def assert_round_is_whole(run: Run, number: int) -> None:
    """Every (task, attempt) that was asked for is gathered once, with its seed, and the file's checksums are right."""
    config = run.config
    workload = round_workload(config, run.dir, make_source(config.tasks, run.dir.tasks), number)
    trajectories = file.read(run.dir.trajectories(number))
    seeds = {(row["task_id"].decode(), int(row["attempt"])): int(row["seed"]) for row in trajectories.episodes}
    assert len(trajectories) == len(seeds)
    assert seeds == {each: episode_seed(config.seed, number, *each) for each in asked_for(workload)}
    assert b"infra_error" not in set(trajectories.episodes["status"])
    assert np.isfinite(trajectories.logprobs).all()
    if workload.policies:
        versions = set(trajectories.episodes["policy_version"].tolist())
        assert versions <= set(workload.policies)


def assert_whole(run: Run) -> None:
    """The same of every round and evaluation of a finished run; its policies are sound."""
    for workload in run.workloads():
        if workload.phase.is_trained_on:
            assert_round_is_whole(run, workload.round)
            assert is_complete(run.dir.policy(workload.round)) and damaged(run.dir.policy(workload.round)) == []
        else:
            assert evaluated(run, workload) == asked_for(workload)
    assert lost_and_doubled(run) == (0, 0)


def weights(run: Run, version: int, whole: Path) -> dict[str, torch.Tensor]:
    """The weights of a policy, whether it is stored whole or as deltas; `whole` is a new folder for its copy."""
    copy_policy(run.dir, version, whole)
    return {name: tensor for file in whole.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_trained_as_if_undisturbed(run: Run, last: int, scratch: Path) -> None:
    """Training once more on the same trajectories, undisturbed and elsewhere, gives the same policies bit for bit."""
    again = copy(run, scratch / "undisturbed")
    for folder in ("policies", "checkpoints", "starts"):
        shutil.rmtree(again.dir.root / folder, ignore_errors=True)
    done = again.command("train")
    assert done.returncode == 0, done.stderr
    for number in range(last + 1):
        one, other = (weights(r, number, scratch / f"whole-{i}-{number}") for i, r in enumerate((run, again)))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), f"policy {number} differs"
    assert any((run.dir.round(number) / "steps.jsonl").exists() for number in range(1, last + 1)), "GRPO made no step"


def configured(runs: Path) -> Run:
    """A run directory that holds its configuration, and nothing to play with: nothing will be played."""
    config = configuration.load([*WORDS, "pipeline.rounds=1", *NO_IMAGES, f"runs={runs}", "name=run"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    return Run(run)


def fill(cluster: Cluster) -> None:
    """Hold all nodes, so that no other job begins."""
    cluster.slurm("sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 600")
