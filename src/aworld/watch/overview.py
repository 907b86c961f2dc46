"""A run at a glance, from its files, one call of squeue, and one of sacct."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aworld.config import Config
from aworld.errors import printable
from aworld.evaluation import benchmark
from aworld.rollout.outcome import Outcome, outcomes
from aworld.rollout.workload import Workload, is_planned, schedule
from aworld.rundir import RunDir
from aworld.stages import SUBMIT
from aworld.tasks import make_source
from aworld.trackers.state import failures
from aworld.watch.jobs import Jobs, ask, jobs_table, rows_of
from aworld.watch.queue import Queued, elements_alive, submitted
from aworld.watch.status import StageStatus, Tally, begun, estimated_end, never_played, status, tally
from aworld.watch.table import UNLIMITED, stage_table

ROWS = 40  # of the table; above that older rounds share one
FINISHED, UNDER_WAY, STOPPED = 0, 10, 11


@dataclass(frozen=True)
class Overview:
    """How far a run is.

    Attributes:
        code: FINISHED, UNDER_WAY or STOPPED.
        over: the outcomes of the finished workloads, by name.
        tallies: of the workloads that have begun, by name.
        notes: lines on benchmarks that cannot be read, rewards that failed, and jobs.
        verdict: the line that a person reads first.
    """

    run: RunDir
    code: int
    stages: list[StageStatus]
    over: dict[str, Outcome]
    tallies: dict[str, Tally]
    jobs: Jobs
    notes: list[str]
    verdict: str


def show_status(config: Config, run: RunDir, console: Console, is_whole: bool = False) -> int:
    """Print how far the run is; returns FINISHED, UNDER_WAY or STOPPED, the exit code.

    Args:
        is_whole: with each finished round and all of their jobs.
    """
    most = UNLIMITED if is_whole else ROWS
    found = look(config, run, *workloads_of(config, run), jobs=slurm_asker(config, run, most))
    console.print(picture(found, console, most))
    return found.code


def slurm_asker(config: Config, run: RunDir, most: int) -> Callable[[], Jobs]:
    """Asks Slurm of the run's jobs; elsewhere there are none."""
    return (lambda: ask(run, most)) if config.site.executor == "slurm" else Jobs


def workloads_of(config: Config, run: RunDir) -> tuple[list[Workload], list[str]]:
    """All that there is to play, and a line for each benchmark whose tasks cannot be read."""
    workloads, unreadable = begun(run)
    return [*schedule(config, run, make_source(config.tasks, run.tasks)), *workloads], unreadable


def look(
    config: Config,
    run: RunDir,
    workloads: list[Workload],
    unreadable: list[str],
    jobs: Callable[[], Jobs],
    count: Callable[[Workload], Tally] = tally,
) -> Overview:
    """How far the run is.

    Args:
        jobs: called once, before the run's files are read: what ends in between is finished by its files.
        count: tallies a workload that is under way.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    asked = jobs()
    held = [each for each in asked.queued if each.is_held]
    has_jobs = bool(elements_alive(asked.queued)) and not (held and _all_wait(asked.queued))
    at_work = has_jobs if config.site.executor == "slurm" else run.is_worked_on()
    if not at_work:
        workloads = [workload for workload in workloads if not never_played(config, workload)]
    over = outcomes(run, workloads)
    stages = status(config, run, workloads, over)
    code = FINISHED if all(stage.finished for stage in stages) else UNDER_WAY if at_work else STOPPED
    begun_names = {stage.workload for stage in stages if stage.is_begun}
    tallies = {
        w.name: tally(w, over[w.name]) if w.name in over else count(w) for w in workloads if w.name in begun_names
    }
    verdict = {
        FINISHED: "finished",
        UNDER_WAY: "under way",
        STOPPED: f"stopped; {_next_command(config, run, workloads, stages)}",
    }[code]
    if code == UNDER_WAY and (end := estimated_end(config, run)) and end > time.time():
        verdict += f", last policy expected {datetime.fromtimestamp(end):%d %B %H:%M}"
    alive = elements_alive(asked.queued) if code == UNDER_WAY else {}
    follow = any(name.startswith(f"{SUBMIT.name}-") for name in alive)
    lost = [line for name, one in tallies.items() for line in _not_scored(name, one)]
    holds = [f"Slurm holds job {each.submission.job} ({each.submission.stage}): {each.reason}" for each in held]
    waiting = submitted(run, alive, config.pipeline.rounds, follow)
    notes = [*unreadable, *lost, *failures(config.trackers, run), *holds, *([waiting] if waiting else [])]
    return Overview(run, code, stages, over, tallies, asked, notes, verdict)


def picture(overview: Overview, console: Console, most: int = UNLIMITED) -> Group:
    """The tables of `aworld status`, with at most so many rows, and the lines below them."""
    shown: list[RenderableType] = [
        Text(printable(str(overview.run.root))),
        Text(),
        stage_table(overview.stages, overview.tallies, console, most),
        Text(),
    ]
    if overview.jobs.states:
        shown += [jobs_table(rows_of(overview.run, overview.jobs.counts())), Text()]
    # As Text, since [ and ] in paths and in Slurm's messages are no markup.
    return Group(*shown, *(Text(printable(line)) for line in (*overview.notes, overview.verdict)))


def _not_scored(name: str, tally: Tally) -> Iterator[str]:
    """A line where the reward failed at episodes of a workload, with the error that it raised most often."""
    if tally.not_scored:
        count, (error, most) = sum(tally.not_scored.values()), max(tally.not_scored.items(), key=lambda item: item[1])
        others = f" ({most} times, and other errors)" if most < count else ""
        yield f"{name}: {count} episode{'' if count == 1 else 's'} not scored: {' '.join(error.split())}{others}"


def _all_wait(queued: list[Queued]) -> bool:
    """Whether every job in the queue is held, or waits for another one."""
    return all(each.is_held or "Dependency" in each.reason for each in queued)


def _next_command(config: Config, run: RunDir, workloads: list[Workload], stages: list[StageStatus]) -> str:
    """The command that goes on with the first thing that is left."""
    left = next((stage.workload for stage in stages if not stage.finished), "")
    for workload in workloads:
        if workload.name == left and workload.benchmark and not is_planned(config, workload):
            return f"go on with: {benchmark.command(run, workload.benchmark, workload.round)}"
    return f"go on with: aworld resume {run.root}"
