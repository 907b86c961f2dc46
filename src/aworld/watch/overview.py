"""A run at a glance, from its files, one call of squeue, and one of sacct."""

import time
from datetime import datetime
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from aworld.config import Config
from aworld.errors import InfrastructureError, printable
from aworld.evaluation import benchmark
from aworld.rollout.outcome import outcomes
from aworld.rollout.workload import Workload, is_planned, schedule
from aworld.rundir import RunDir
from aworld.stages import SUBMIT
from aworld.tasks import make_source
from aworld.watch.jobs import job_states, jobs_table
from aworld.watch.queue import Queued, elements_alive, queue, submitted
from aworld.watch.status import StageStatus, begun, estimated_end, never_played, status, tally
from aworld.watch.table import UNLIMITED, stage_table

OTHER_LINES = 10  # that `watch` shows besides the rows of the table
POLITE_SECONDS = 60.0  # between two questions to Slurm, which many people ask
ROWS = 40  # of the table; above that older rounds share one
FINISHED, UNDER_WAY, STOPPED = 0, 10, 11


def show_status(config: Config, run: RunDir, console: Console, is_whole: bool = False) -> int:
    """Print how far the run is; returns FINISHED, UNDER_WAY or STOPPED, the exit code.

    Args:
        is_whole: with each finished round and all of their jobs.
    """
    picture, code = _picture(config, run, *_workloads(config, run), console, UNLIMITED if is_whole else ROWS)
    console.print(picture)
    return code


def watch(config: Config, run: RunDir, console: Console, every: float) -> int:
    """Show how far the run is until it is finished or stops; returns FINISHED or STOPPED, the exit code.

    Args:
        every: seconds between two looks.
    """
    if config.site.executor == "slurm" and every < min(POLITE_SECONDS, config.site.queue_seconds):
        console.print(f"[yellow]every {every:g} s: Slurm is shared; ask it every {POLITE_SECONDS:g} s at most[/]")
    workloads, unreadable = _workloads(config, run)
    most = console.height - OTHER_LINES if console.is_terminal else ROWS
    with Live(console=console, auto_refresh=False) as live:
        show = partial(live.update, refresh=True) if console.is_terminal else console.print
        picture, code = _picture(config, run, workloads, unreadable, console, most)
        while code == UNDER_WAY:
            show(picture)
            time.sleep(every)
            try:
                picture, code = _picture(config, run, workloads, unreadable, console, most)
            except InfrastructureError as reason:  # it answered before, and will again
                picture = Group(f"{reason}; looking again in {every:g} s")
        show(picture)
    return code


def _workloads(config: Config, run: RunDir) -> tuple[list[Workload], list[str]]:
    """All that there is to play, and a line for each benchmark whose tasks cannot be read."""
    workloads, unreadable = begun(run)
    return [*schedule(config, run, make_source(config.tasks, run.tasks)), *workloads], unreadable


def _picture(
    config: Config,
    run: RunDir,
    workloads: list[Workload],
    unreadable: list[str],
    console: Console,
    most: int = UNLIMITED,
) -> tuple[Group, int]:
    on_slurm = config.site.executor == "slurm"
    queued = queue(run) if on_slurm else []
    held = [each for each in queued if each.is_held]
    has_jobs = bool(elements_alive(queued)) and not (held and _all_wait(queued))
    at_work = has_jobs if on_slurm else run.is_worked_on()
    if not at_work:
        workloads = [workload for workload in workloads if not never_played(config, workload)]
    over = outcomes(run, workloads)
    stages = status(config, run, workloads, over)
    jobs = job_states(run, queued, most) if on_slurm else {}
    code = FINISHED if all(stage.finished for stage in stages) else UNDER_WAY if at_work else STOPPED
    begun_names = {stage.workload for stage in stages if stage.done}
    tallies = {w.name: tally(w, over.get(w.name)) for w in workloads if w.name in begun_names}
    verdicts = {
        FINISHED: "finished",
        UNDER_WAY: "under way",
        STOPPED: f"stopped; {_next_command(config, run, workloads, stages)}",
    }
    end = estimated_end(config, run) if code == UNDER_WAY else None
    verdict = verdicts[code] + (f", last policy expected {datetime.fromtimestamp(end):%d %B %H:%M}" if end else "")
    alive = elements_alive(queued) if code == UNDER_WAY else {}
    follow = any(name.startswith(f"{SUBMIT.name}-") for name in alive)
    waiting = submitted(run, alive, config.pipeline.rounds, follow)
    notes = [f"Slurm holds job {each.submission.job} ({each.submission.stage}): {each.reason}" for each in held]
    picture: list[RenderableType] = [
        Text(printable(str(run.root))),
        Text(),
        stage_table(stages, tallies, console, most),
        Text(),
    ]
    picture += [jobs_table(run, jobs), Text()] if jobs else []
    # As Text, since [ and ] in paths and in Slurm's messages are no markup.
    picture += [Text(printable(line)) for line in (*unreadable, *notes, waiting, verdict) if line]
    return Group(*picture), code


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
