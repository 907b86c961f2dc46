"""A whole run on this machine: workers and a trainer that stay up, hand over through files, and are started again."""

import time
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from aworld.config import Config
from aworld.environments.sandbox import choose
from aworld.errors import InfrastructureError, InputError, printable
from aworld.launch import evaluations
from aworld.launch.executor import Job, processes, submit
from aworld.launch.plan import discard_damaged, plan
from aworld.launch.prepare import prepare
from aworld.locks import end_holder, sole_holder
from aworld.publish import is_complete
from aworld.rollout.outcome import unfinished
from aworld.rollout.units import is_closed
from aworld.rollout.workload import Workload, schedule
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, REPORT, TRAIN, Stage
from aworld.trackers.beside import WRITE_SECONDS, bring_up_to_date
from aworld.watch.progress import Progress
from aworld.watch.status import status

LAUNCHER = "launcher"  # the name of its lock: two launchers would end each other's processes
PATIENCE = 60.0  # seconds for the launcher to end all that it started


def stages(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    """The long-lived processes that the run still needs."""
    work = [stage for stage in plan(config, run, workloads) if stage.kind != REPORT]
    return [process for stage in work for process in processes(stage)]


def pipeline(config: Config, console: Console) -> RunDir:
    """Run until every round is trained and all evaluations are done, then write the report.

    Raises:
        InfrastructureError: a job was started `max_restarts` times in a row without getting anywhere, or another
            launcher is at work on this run.
    """
    sandbox = choose(config.site.sandbox, config.site.images.environment)
    if not RunDir.of(config).config.exists():
        console.print(f"[bold]{config.name}[/]: preparing tasks and the first policy …")
    run, source = prepare(config)
    workloads = [*schedule(config, run, source), *evaluations.workloads(config, run)]
    with sole_holder(run.lock(LAUNCHER)):
        gaps = f"; known gaps: {'; '.join(sandbox.gaps)}" if sandbox.gaps else ", no known gaps"
        console.print(f"Sandbox: {sandbox.name}{gaps}.", highlight=False)
        console.print(f"One line per finished round and evaluation. What is under way: aworld status {run.root}")
        _keep_up(config, run, workloads, console)
    from aworld.evaluation.report import report  # importing matplotlib takes half a second

    report(config, run)
    if config.trackers:
        console.print(f"Writing what {', '.join(config.trackers)} lacks: {WRITE_SECONDS / 60:g} minutes at most …")
    bring_up_to_date(config.trackers, run)
    return run


def _keep_up(config: Config, run: RunDir, workloads: list[Workload], console: Console) -> None:
    discard_damaged(run, workloads)
    crew = [Member(stage, config, run, workloads) for stage in stages(config, run, workloads)]
    try:
        with Progress(console, config, run, workloads) as progress:
            while not all(member.finished for member in crew):
                for member in crew:
                    if member.job or _is_due(member, crew):
                        member.keep_up(console)
                progress.update()
                time.sleep(config.site.poll_seconds)
    finally:
        for member in crew:
            member.stop()
    if left := [workload.name for workload in unfinished(run, workloads) if not is_closed(workload)]:
        raise InfrastructureError(f"every job ended, yet {', '.join(left)} is not done; see {run.logs}")


def _is_due(member: "Member", crew: list["Member"]) -> bool:
    """Whether a job can start.

    An evaluation waits for its policy, while training may still make it. Evaluations run one at a time.
    """
    stage = member.stage
    if stage.kind != EVALUATE or stage.number is None:
        return True
    others = [other.stage for other in crew if other.job and not other.finished and other.stage.kind == EVALUATE]
    if any((other.number, other.benchmark) != (stage.number, stage.benchmark) for other in others):
        return False
    if is_complete(stage.run.policy(stage.number)):
        return True
    return all(other.finished for other in crew if other.stage.kind == TRAIN)


def cancel(run: RunDir) -> list[str]:
    """End the launcher, then the other processes that work on the run here; returns the names of their locks."""
    names = [LAUNCHER, *sorted(path.stem for path in run.lock(LAUNCHER).parent.glob("*.lock") if path.stem != LAUNCHER)]
    return [name for name in names if end_holder(run.lock(name), PATIENCE)]


@dataclass
class Member:
    """A long-lived job, which is started again when it stops before its time.

    Attributes:
        workloads: of the whole run, in which the job may make progress.
        restarts: in a row without progress.
        progress: units done at the last restart.
    """

    stage: Stage
    config: Config
    run: RunDir
    workloads: list[Workload]
    job: Job | None = None
    finished: bool = False
    restarts: int = 0
    progress: int = -1

    def keep_up(self, console: Console) -> None:
        """Start the job, or start it again where it has stopped.

        Raises:
            InputError: it refused its input.
            InfrastructureError: it stopped too often without progress.
        """
        if self.finished:
            return
        if self.job is None:
            self.job = submit(self.stage)
        code = self.job.exit_code()
        if code is None:
            return
        if code == 0:
            self.finished = True
            return
        if code == InputError.exit_code:
            raise InputError(f"{self.stage.name}: {self.job.complaint()}")
        done = sum(s.done for s in status(self.config, self.run, self.workloads))
        self.restarts = 1 if done > self.progress else self.restarts + 1
        self.progress = done
        if self.restarts > self.config.pipeline.max_restarts:
            raise InfrastructureError(
                f"{self.stage.name} stopped {self.restarts} times in a row without progress (last exit code {code}): "
                f"{self.job.complaint()}; then run the same command again"
            )
        complaint = escape(printable(self.job.complaint()))
        console.print(f"[yellow]{self.stage.name} stopped (exit code {code}); starting it again[/]: {complaint}")
        self.job = submit(self.stage)

    def stop(self) -> None:
        """End the job if it runs."""
        if self.job is not None and not self.finished:
            self.job.end()
