"""One stage on this machine: start its processes, and wait for them."""

import signal
import time

from rich.console import Console
from rich.markup import escape

from aworld.config import Config
from aworld.errors import InfrastructureError, InputError, TaskError
from aworld.launch import executor
from aworld.rollout.units import is_closed, units_left
from aworld.rollout.workload import Workload
from aworld.stages import Stage
from aworld.watch.progress import Progress

KILLED = -signal.SIGKILL
ERRORS = {error.exit_code: error for error in (InputError, TaskError)}


def play(config: Config, stage: Stage, workload: Workload, console: Console) -> None:
    """Run a stage to its end. A worker that was killed is started once more: its claims wait for its return.

    Raises:
        InputError, TaskError, InfrastructureError: a process failed, and the others have not done its share.
    """
    jobs: list[executor.Job] = []
    try:
        for process in executor.processes(stage):
            jobs.append(executor.submit(process))
        names = ", ".join(f"{job.stage.name} ({job.submitted.job_id})" for job in jobs)
        console.print(f"started {names}", soft_wrap=True)
        with Progress(console, config, stage.run, [workload]) as progress:
            spare = {job.stage.name for job in jobs if stage.kind.has_workers}
            while True:
                for at, job in enumerate(jobs):
                    if job.exit_code() == KILLED and job.stage.name in spare:
                        spare.remove(job.stage.name)
                        jobs[at] = executor.submit(job.stage)
                        console.print(f"{job.stage.name} was killed; started again", soft_wrap=True)
                if all(job.exit_code() is not None for job in jobs):
                    break
                time.sleep(config.site.poll_seconds)
                progress.update()
    finally:
        for job in jobs:
            if job.exit_code() is None:  # this process was told to end, or one of the jobs could not be started
                job.end()
    for job in jobs:
        if not (code := job.exit_code()):
            continue
        reason = f"{job.stage.name} ended with exit code {code}: {job.complaint()}"
        if not _is_done(stage, workload):
            raise ERRORS.get(code, InfrastructureError)(reason)
        console.print(f"[yellow]warning:[/] {escape(reason)}; the others have played its share", soft_wrap=True)


def _is_done(stage: Stage, workload: Workload) -> bool:
    """Whether all episodes of a stage with workers are there, whichever worker was lost."""
    return stage.kind.has_workers and not units_left(workload) and (is_closed(workload) or workload.phase.is_trained_on)
