"""A task of a Slurm job: its number, the count of its starts, and its exit code for the batch script.

The batch script puts its job back into the queue when the stage was told to end early, lost its machine or was killed.
Slurm does so itself only for some kinds of preemption, and never at a time limit. The script counts the starts of which
no task begins; `begin` counts the others.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aworld.config import Config
from aworld.errors import InputError, Interrupted, TaskError
from aworld.locks import holder, sole_holder, try_to_hold
from aworld.processes import Notice
from aworld.publish import append_json, read_jsonl
from aworld.rundir import progress_counters
from aworld.stages import AWAIT, Stage

JOB = "AWORLD_JOB"  # set by our batch scripts: the path of the job's files in `starts/`, without .tries and .code


def in_job() -> bool:
    """Whether this process is a task of a Slurm job's step."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ


def task_number() -> int:
    """This task's number in its job; 0 outside Slurm."""
    return int(os.environ["SLURM_PROCID"]) if in_job() else 0


def in_own_job() -> bool:
    """Whether a batch script of ours started this process. In an allocation a person starts it, and sees its end."""
    return JOB in os.environ


def begin(config: Config, stage: Stage) -> None:
    """Note that one task of a stage begins, `stage.task`.

    Raises:
        TaskError: its job began again `pipeline.max_restarts` times without the stage getting on in between, though it
            does not only wait for others; or was put back into the queue more than `pipeline.max_requeues` times.
    """
    run, name = stage.run, stage.name
    path = run.starts / f"{name}.jsonl"
    job, restart = "", 0
    if in_own_job():
        job, restart = os.environ["SLURM_JOB_ID"], int(os.environ.get("SLURM_RESTART_COUNT", 0))
        Path(f"{os.environ[JOB]}.tries").unlink(missing_ok=True)
    progress = progress_counters(run, stage.outputs)
    earlier = [start for start in read_jsonl(path) if start["job"] == job]
    start = {"job": job, "restart": restart, "progress": progress, "time": time.time(), "node": socket.gethostname()}
    append_json(path, start)
    if not job:
        return  # the launcher counts, or a person
    cap = max(1, config.pipeline.max_restarts)
    if stage.kind != AWAIT and sum(start["progress"] == progress for start in earlier[-cap:]) == cap:
        raise TaskError(
            f"{name} of job {job} began {cap + 1} times while the run did not get on with it; see its log in "
            f"{run.logs}, mend the cause, then: aworld resume {run.root}"
        )
    if restart > config.pipeline.max_requeues:
        raise TaskError(f"job {job} was put back into the queue {restart} times; go on with: aworld resume {run.root}")


def note_end(code: int) -> None:
    """Tell the batch script that a task ended for good: with bad input, or with a bad outcome."""
    if in_own_job() and code in (InputError.exit_code, TaskError.exit_code):
        Path(f"{os.environ[JOB]}.code").write_text(f"{code}\n")


@contextmanager
def sole_trainer(lock: Path, poll: float) -> Iterator[None]:
    """Hold the lock on the run's training, `Stage.lock`; look for it every `poll` seconds.

    Where Slurm lost sight of a node and started a second copy of the job, the first may be at work still. The second
    waits for it, for as long as its job may run; then all of its ranks begin anew, to find what the first one made.

    Raises:
        Interrupted: another held it, and has ended, or this process was told to end while it waited.
        InfrastructureError: another holds it, and this is no job that could wait.
    """
    if task_number():
        yield
        return
    if not in_job():
        with sole_holder(lock):
            yield
        return
    with try_to_hold(lock) as is_ours:
        if is_ours:
            yield
            return
    notice = Notice()
    print(f"{holder(lock)} trains this run already ({lock}); waiting for its end", flush=True)
    while not notice.soon:
        time.sleep(poll)
        with try_to_hold(lock) as is_free:
            if is_free:
                raise Interrupted(f"the other copy has ended; job {os.environ.get('SLURM_JOB_ID')} begins anew")
    raise Interrupted(f"told to end while waiting for {lock}")
