"""What Slurm says of a run's jobs, and the table of it: a row for each stage."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from rich.table import Table

from aworld.errors import InfrastructureError
from aworld.rundir import RunDir
from aworld.watch.files import job_rows, names, starts
from aworld.watch.queue import Queued, accounts, newest, queue, submissions
from aworld.watch.table import SLIM, UNLIMITED


@dataclass(frozen=True)
class Jobs:
    """The run's jobs, as Slurm shows them.

    Attributes:
        queued: the elements that wait or run.
        states: of each stage's elements, also of those that have ended.
    """

    queued: list[Queued] = field(default_factory=list)
    states: dict[tuple[str, int], str] = field(default_factory=dict)

    def counts(self) -> dict[str, Counter[str]]:
        """How many elements of each stage are in each state."""
        found: dict[str, Counter[str]] = {}
        for (stage, _), state in self.states.items():
            found.setdefault(stage, Counter())[state] += 1
        return found


@dataclass(frozen=True)
class JobRow:
    """A stage that has jobs.

    Attributes:
        job: the id of the last one.
        elements: how many are in each state.
        restarts: how often its tasks began again.
    """

    stage: str
    job: str
    elements: Counter[str]
    restarts: int


def rows_of(run: RunDir, jobs: dict[str, Counter[str]]) -> list[JobRow]:
    """A row for each stage that has jobs, in the order of their submission. Reads the starts of each."""
    if not jobs:
        return []
    submitted = submissions(run, job_rows(run))
    ids = {submission.stage: submission.job for submission in submitted}
    again = restarts(run, {submission.job: submission.stage for submission in submitted if submission.stage in jobs})
    return [JobRow(stage, ids[stage], states, again[stage]) for stage, states in jobs.items()]


def jobs_table(rows: Iterable[JobRow]) -> Table:
    table = SLIM("stage", "job", "elements", "restarts")
    for row in rows:
        elements = ", ".join(f"{count} {state.lower()}" for state, count in sorted(row.elements.items()))
        table.add_row(row.stage, row.job, elements, str(row.restarts))
    return table


def restarts(run: RunDir, stages: dict[str, str]) -> Counter[str]:
    """How often tasks of stages began again, or their jobs began again before a task could.

    Args:
        stages: by the ids of their jobs.
    """
    found: Counter[str] = Counter()
    wanted = set(stages.values())
    for name in names(run.starts):
        stem, _, suffix = name.rpartition(".")
        if suffix == "jsonl":
            stage = stem if stem in wanted else stem.rpartition("-")[0]
            if stage in wanted:
                found[stage] += max(0, len(starts(run.starts / name)) - 1)
        elif suffix == "tries" and (stage := stages.get(stem.partition("_")[0], "")):
            with suppress(FileNotFoundError):  # a task began just now
                found[stage] += (run.starts / name).read_text().count("\n") - 1
    return found


def ask(run: RunDir, most: int = UNLIMITED) -> Jobs:
    """The run's jobs, by one call of squeue and one of sacct. Only the newest submissions count.

    squeue is asked first, as sacct learns of a job later. One call of sacct then says how the other jobs ended; where
    Slurm keeps no accounts, they are left out.

    Args:
        most: stages that are looked up: those that wait or run, and the last ones that ended.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    queued = queue(run)
    submitted = newest(run)
    waiting = {(each.submission.stage, each.element): each.state for each in queued}
    alive = {stage for stage, _ in waiting}
    ended = [stage for stage in dict.fromkeys(stage for stage, _ in submitted) if stage not in alive]
    shown = alive | set(ended[::-1][: max(0, most - len(alive))])
    submitted = {key: submission for key, submission in submitted.items() if key[0] in shown}
    gone = sorted({submission.job for key, submission in submitted.items() if key not in waiting})
    states = accounts(gone) if gone else {}
    found: dict[tuple[str, int], str] = {}
    for (stage, element), submission in submitted.items():
        index = submission.elements.index(element)
        job = f"{submission.job}_{index}" if len(submission.elements) > 1 else submission.job
        if state := waiting.get((stage, element)) or states.get(job) or states.get(submission.job):
            found[stage, element] = state
    return Jobs(queued, found)


class AskedSometimes:
    """Asks Slurm at most every `seconds`, and gives its last answer in between: many people ask it.

    Attributes:
        complaint: why the last question had no answer; the one before it is given instead.
    """

    def __init__(self, ask: Callable[[], Jobs], seconds: float):
        self._ask, self._seconds = ask, seconds
        self._last: Jobs | None = None
        self._next = 0.0
        self.complaint = ""

    def __call__(self) -> Jobs:
        if time.monotonic() >= self._next:
            try:
                self._last, self.complaint = self._ask(), ""
            except InfrastructureError as reason:
                if self._last is None:
                    raise
                self.complaint = str(reason)  # it answered before, and will again
            self._next = time.monotonic() + self._seconds
        assert self._last is not None
        return self._last
