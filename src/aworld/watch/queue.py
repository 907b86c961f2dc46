"""A run's jobs: what was submitted by `jobs.jsonl`, what waits or runs by squeue, how the others ended by sacct."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.publish import read_jsonl
from aworld.rundir import RunDir
from aworld.slurm import ask, squeue
from aworld.stages import AWAIT, TRAIN
from aworld.watch.files import Rows

SETTLED = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")
SETTLE_SECONDS, SETTLE_EVERY = 60.0, 5.0


@dataclass(frozen=True)
class Submission:
    """A line of `jobs.jsonl`: the job, or array, that plays these elements of a stage."""

    stage: str
    job: str
    elements: list[int]
    name: str


@dataclass(frozen=True)
class Queued:
    """An element of a submission that Slurm has in its queue, its state there, and why it waits."""

    submission: Submission
    element: int
    state: str
    reason: str

    @property
    def is_held(self) -> bool:
        return self.state == "PENDING" and "held" in self.reason.lower()  # as in "launch failed requeued held"


def submissions(run: RunDir, rows: Rows | None = None) -> list[Submission]:
    """Every submission of the run so far, the oldest first; of a copied folder, none of the original's.

    Args:
        rows: of `jobs.jsonl`; None: they are read.
    """
    rows = [row for row in (read_jsonl(run.jobs) if rows is None else rows) if "elements" in row]
    elsewhere = {place for place in {row["run"] for row in rows if "run" in row} if not _is_here(place, run)}
    keys = ("stage", "job", "elements", "name")
    return [Submission(**{key: row[key] for key in keys}) for row in rows if row.get("run") not in elsewhere]


def _is_here(place: str, run: RunDir) -> bool:
    """Whether the folder `place` is this run's, by whatever path."""
    with suppress(OSError):
        return Path(place).samefile(run.root)
    return False


def queue(run: RunDir) -> list[Queued]:
    """What squeue shows of the run's jobs, by one call.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    mine = {submission.job: submission for submission in submissions(run)}
    found = []
    # by id, so that another user sees them as well
    for job, index, state, reason, name in squeue("%F|%K|%T|%r|%j", f"--jobs={','.join(mine)}") if mine else ():
        if name == mine[job].name:  # where Slurm began to count anew, another job has that id
            element = mine[job].elements[int(index) if index.isdigit() else 0]
            found.append(Queued(mine[job], element, state, reason))
    return found


def newest(run: RunDir) -> dict[tuple[str, int], Submission]:
    """The last submission of every element of every stage."""
    return {(each.stage, element): each for each in submissions(run) for element in each.elements}


def elements_alive(queued: Iterable[Queued]) -> dict[str, dict[int, str]]:
    """The elements of each stage that wait or run, and their jobs."""
    found: dict[str, dict[int, str]] = {}
    for each in queued:
        if each.reason != "DependencyNeverSatisfied":
            found.setdefault(each.submission.stage, {})[each.element] = each.submission.job
    return found


def submitted(run: RunDir, names: Iterable[str], last: int, follow: bool) -> str:
    """A line that tells which rounds have jobs in the queue, and who submits later ones; empty where there is none.

    Args:
        names: of the stages in the queue. A batch run has trainings there, a resident run waits for policies.
        last: number of the run's last round.
        follow: whether a job of the run submits the later ones.
    """
    found: dict[str, list[int]] = {TRAIN.name: [], AWAIT.name: []}
    for kind, _, number in (name.partition("-") for name in names):
        if kind in found and number.isdecimal():
            found[kind].append(int(number))
    what, numbers = (
        ("rounds", found[TRAIN.name]) if found[TRAIN.name] else ("evaluations of policies", found[AWAIT.name])
    )
    if not numbers or max(numbers) >= last:
        return ""
    one = "a round that ends submits a later one" if what == "rounds" else "a policy that is made submits later ones"
    later = one if follow else f"later ones: aworld resume {run.root}"
    return f"{what} {min(numbers)} to {max(numbers)} of {last} are submitted; {later}"


def settled(run: RunDir) -> list[Queued]:
    """The queue once no job in it is ending: such a job may come back, or leave.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    give_up = time.monotonic() + SETTLE_SECONDS
    while True:
        queued = queue(run)
        if all(each.state in SETTLED for each in queued) or time.monotonic() > give_up:
            return queued
        time.sleep(SETTLE_EVERY)


def accounts(jobs: list[str]) -> dict[str, str]:
    """The states of jobs and array elements by sacct, also of those that are over; empty where Slurm keeps no accounts.

    Elements of an array that has not begun may be known only together, under the array's own id.
    """
    try:
        shown = ask(
            "sacct",
            "--noheader",
            "--allusers",
            "--parsable2",
            "--allocations",
            f"--jobs={','.join(jobs)}",
            "--format=JobID,State",
        )
    except InfrastructureError:
        return {}
    rows = (line.split("|") for line in shown.splitlines())
    # sacct says CANCELLED by 1000; what is no row is of no use, and squeue is asked as well
    return {row[0].partition("_[")[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}
