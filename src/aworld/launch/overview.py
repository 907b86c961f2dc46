"""What a person sees of a run at a glance: from its files, one call of squeue, and one of sacct."""

import re
import time
from collections import Counter
from datetime import datetime
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aworld.config import Config
from aworld.errors import InfrastructureError, printable
from aworld.evaluation import benchmark
from aworld.launch import slurm
from aworld.launch.status import StageStatus, begun, estimated_end, never_played, status, tally
from aworld.launch.table import SLIM, UNLIMITED, parts
from aworld.publish import read_jsonl
from aworld.rollout.workload import Workload, schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source

FURTHER_LINES = 10  # that `watch` has to show besides the rows of the run
POLITE_SECONDS = 60.0  # between two questions to a Slurm that many people ask
FINISHED, UNDER_WAY, STOPPED = 0, 10, 11


def show_status(config: Config, run: RunDir, console: Console) -> int:
    """Print where the run is; returns the exit code that says so."""
    picture, code = _picture(config, run, *_workloads(config, run), console)
    console.print(picture)
    return code


def watch(config: Config, run: RunDir, console: Console, every: float) -> int:
    """Show it until the run is finished or stops; returns the exit code that says which."""
    if config.site.executor == "slurm" and every < min(POLITE_SECONDS, config.site.poll_seconds):
        console.print(f"[yellow]every {every:g} s: Slurm is shared; ask it every {POLITE_SECONDS:g} s at most[/]")
    workloads, unreadable = _workloads(config, run)
    most = console.height - FURTHER_LINES if console.is_terminal else UNLIMITED
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
    """All that there is to play, and what cannot be shown."""
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
    queued = slurm.queue(run) if on_slurm else []
    held = [each for each in queued if each.is_held]
    at_work = run.is_worked_on()
    if on_slurm:
        at_work = bool(slurm.elements(queued)) and not (held and _all_wait(queued))
    if not at_work:
        workloads = [workload for workload in workloads if not never_played(run, workload)]
    stages = status(config, run, workloads)
    jobs = job_states(run, queued) if on_slurm else {}
    code = FINISHED if all(stage.finished for stage in stages) else UNDER_WAY if at_work else STOPPED
    begun_parts = {stage.part for stage in stages if stage.done}
    tallies = {workload.name: tally(workload) for workload in workloads if workload.name in begun_parts}
    words = {FINISHED: "finished", UNDER_WAY: "under way", STOPPED: f"stopped; {_mend(run, stages)}"}
    end = estimated_end(config, run) if code == UNDER_WAY else None
    verdict = words[code] + (f", the last policy about {datetime.fromtimestamp(end):%d %B %H:%M}" if end else "")
    notes = [f"Slurm holds job {each.submission.job} ({each.submission.stage}): {each.reason}" for each in held]
    said = (
        Text(printable(line)) for line in (*unreadable, *notes, verdict)
    )  # [ and ] of Slurm's words and of paths are no markup
    picture: list[RenderableType] = [
        Text(printable(str(run.root))),
        Text(),
        parts(stages, tallies, console, most),
        Text(),
    ]
    picture += [_jobs(run, jobs), Text()] if jobs else []
    return Group(*picture, *said), code


def _all_wait(queued: list[slurm.Queued]) -> bool:
    """Whether every job that is left is held, or waits for another."""
    return all(each.is_held or "Dependency" in each.reason for each in queued)


def _mend(run: RunDir, stages: list[StageStatus]) -> str:
    """The command that goes on with the first thing that is left."""
    part = next((stage.part for stage in stages if not stage.finished), "")
    name, _, version = part.rpartition("-")
    if name and run.benchmark(name).is_file():
        return f"go on with: {benchmark.command(run, name, int(version))}"
    return f"go on with: aworld resume {run.root}"


def _jobs(run: RunDir, jobs: dict[str, Counter[str]]) -> Table:
    """Every stage that has jobs, in the order of their submission."""
    table = SLIM("stage", "job", "elements", "restarts")
    ids = {submission.stage: submission.job for submission in slurm.submissions(run)}
    for stage, states in jobs.items():
        elements = ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
        table.add_row(stage, ids[stage], elements, str(restarts(run, stage)))
    return table


def restarts(run: RunDir, stage: str) -> int:
    """How often tasks of a stage began once more, or its jobs did before any task could."""
    paths = [*run.starts.glob(f"{stage}.jsonl"), *run.starts.glob(f"{stage}-[0-9]*.jsonl")]
    begun = sum(max(0, len(read_jsonl(path)) - 1) for path in paths)
    jobs = {submission.job for submission in slurm.submissions(run) if submission.stage == stage}
    tries = [path for path in run.starts.glob("*.tries") if re.split(r"[_.]", path.name)[0] in jobs]
    return begun + sum(path.read_text().count("\n") - 1 for path in tries)


def job_states(run: RunDir, queued: list[slurm.Queued]) -> dict[str, Counter[str]]:
    """How many elements of each stage's newest submissions are in which state of Slurm's.

    By squeue, as sacct learns of a job later; what has left the queue, by one call of sacct. Where Slurm keeps no
    accounts, it is left out.
    """
    newest = slurm.newest(run)
    waiting = {(each.submission.stage, each.element): each.state for each in queued}
    gone = sorted({submission.job for key, submission in newest.items() if key not in waiting})
    accounts = slurm.accounts(gone) if gone else {}
    found: dict[str, Counter[str]] = {}
    for (stage, element), submission in newest.items():
        index = submission.elements.index(element)
        job = f"{submission.job}_{index}" if len(submission.elements) > 1 else submission.job
        if state := waiting.get((stage, element)) or accounts.get(job) or accounts.get(submission.job):
            found.setdefault(stage, Counter())[state] += 1
    return found
