"""A task of a Slurm job: which one it is, and how often its job began.

The batch script puts its job back into the queue when the stage was told to end early, lost its machine or was killed.
Slurm does so itself only for some kinds of preemption, and never at a time limit.
"""

import os
import socket
import time

from aworld.config import Config
from aworld.errors import TaskError
from aworld.rundir import RunDir, append_json, is_complete, read_jsonl


def in_job() -> bool:
    """Whether this process is a task of a Slurm job's step."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ


def task_number() -> int:
    """This task's number in its job; 0 outside Slurm."""
    return int(os.environ["SLURM_PROCID"]) if in_job() else 0


def begin(config: Config, run: RunDir, name: str) -> None:
    """Note that a task of a stage begins, such as rollout-0003-1.

    Raises:
        TaskError: its job began `pipeline.max_restarts` times without the run getting on in between, or was put back
            into the queue `pipeline.max_requeues` times.
    """
    path = run.starts / f"{name}.jsonl"
    job, restart = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    progress = durable(run)
    earlier = [start for start in read_jsonl(path) if start["job"] == job]
    start = {"job": job, "restart": restart, "progress": progress, "time": time.time(), "node": socket.gethostname()}
    append_json(path, start)
    if not job:
        return  # the launcher counts
    cap = config.pipeline.max_restarts
    if sum(start["progress"] == progress for start in earlier[-cap:]) == cap:
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
