"""A stage's life inside a Slurm job: how often it began, and how it comes back when it has to end early."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aworld.config import Config
from aworld.errors import InfrastructureError, Interrupted, TaskError
from aworld.rundir import RunDir, append_json, is_complete, read_jsonl

REQUEUE_SECONDS = 60.0  # Slurm's time to end a job that it has put back into the queue


def in_job() -> bool:
    """Whether this process is a task of a Slurm job's step."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ


def task_number() -> int:
    """This task's number in its job; 0 outside Slurm."""
    return int(os.environ["SLURM_PROCID"]) if in_job() else 0


@contextmanager
def lifetime(config: Config, run: RunDir, name: str) -> Iterator[None]:
    """Around a stage's work. Outside a Slurm job it only notes the start.

    In a job that is told to end early, or whose machine fails, the first task puts the job back into the queue: Slurm
    does so itself only for some kinds of preemption, and never at a time limit.

    Args:
        name: of this task of the stage, such as rollout-0003-1.

    Raises:
        TaskError: it began `pipeline.max_restarts` times without the run getting on in between, or the job was put
            back `pipeline.max_requeues` times.
    """
    _note_start(config, run, name)
    try:
        yield
    except (Interrupted, InfrastructureError) as reason:
        if in_job() and _requeued(reason):
            time.sleep(REQUEUE_SECONDS)
        raise


def _note_start(config: Config, run: RunDir, name: str) -> None:
    path = run.starts / f"{name}.jsonl"
    job, restart = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    progress = durable(run)
    earlier = [start for start in read_jsonl(path) if start["job"] == job]
    append_json(
        path, {"job": job, "restart": restart, "progress": progress, "time": time.time(), "node": socket.gethostname()}
    )
    if not job:
        return  # the launcher counts
    cap = config.pipeline.max_restarts
    stuck = [start for start in earlier[-cap:] if start["progress"] == progress]
    if len(stuck) == cap:
        raise TaskError(
            f"{name} of job {job} began {cap + 1} times while the run did not get on; see its log in {run.logs}, mend "
            f"the cause, then: aworld resume {run.root}"
        )
    if restart > config.pipeline.max_requeues:
        raise TaskError(f"job {job} was put back into the queue {restart} times; go on with: aworld resume {run.root}")


def durable(run: RunDir) -> int:
    """A number that grows whenever anything of the run becomes durable: bytes of journals, files that are published."""
    journals = sum(path.stat().st_size for path in run.root.glob("*/**/journals/*.journal"))
    gathered = len(list(run.root.glob("rounds/*/trajectories.h5")))
    folders = [*run.root.glob("policies/[0-9]*"), *run.root.glob("checkpoints/round-*")]
    return journals + gathered + sum(1 + int("".join(filter(str.isdigit, f.name))) for f in folders if is_complete(f))


def _requeued(reason: Exception) -> bool:
    """Put the job back into the queue, unless it was cancelled. True: Slurm will end this task now."""
    if task_number():
        return True  # the first task does it
    job = os.environ["SLURM_JOB_ID"]
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False)
    if "JobState=RUNNING" not in shown.stdout:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    print(f"job {job}: {'back into the queue' if not done.returncode else done.stderr.strip()} ({reason})", flush=True)
    return not done.returncode
