"""The table of a run's Slurm jobs: a row for each stage."""

import re
from collections import Counter

from rich.table import Table

from aworld.publish import read_jsonl
from aworld.rundir import RunDir
from aworld.watch.queue import Queued, accounts, newest, submissions
from aworld.watch.table import SLIM


def jobs_table(run: RunDir, jobs: dict[str, Counter[str]]) -> Table:
    """A row for each stage that has jobs, in the order of their submission."""
    table = SLIM("stage", "job", "elements", "restarts")
    ids = {submission.stage: submission.job for submission in submissions(run)}
    for stage, states in jobs.items():
        elements = ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
        table.add_row(stage, ids[stage], elements, str(restarts(run, stage)))
    return table


def restarts(run: RunDir, stage: str) -> int:
    """How often tasks of a stage began again, or its jobs began again before a task could."""
    paths = [*run.starts.glob(f"{stage}.jsonl"), *run.starts.glob(f"{stage}-[0-9]*.jsonl")]
    begun = sum(max(0, len(read_jsonl(path)) - 1) for path in paths)
    jobs = {submission.job for submission in submissions(run) if submission.stage == stage}
    tries = [path for path in run.starts.glob("*.tries") if re.split(r"[_.]", path.name)[0] in jobs]
    return begun + sum(path.read_text().count("\n") - 1 for path in tries)


def job_states(run: RunDir, queued: list[Queued]) -> dict[str, Counter[str]]:
    """The states of the elements of each stage, and how many elements are in each. Only the newest submissions count.

    squeue is asked first, as sacct learns of a job later. One call of sacct then says how the other jobs ended; where
    Slurm keeps no accounts, they are left out.
    """
    submitted = newest(run)
    waiting = {(each.submission.stage, each.element): each.state for each in queued}
    gone = sorted({submission.job for key, submission in submitted.items() if key not in waiting})
    states = accounts(gone) if gone else {}
    found: dict[str, Counter[str]] = {}
    for (stage, element), submission in submitted.items():
        index = submission.elements.index(element)
        job = f"{submission.job}_{index}" if len(submission.elements) > 1 else submission.job
        if state := waiting.get((stage, element)) or states.get(job) or states.get(submission.job):
            found.setdefault(stage, Counter())[state] += 1
    return found
