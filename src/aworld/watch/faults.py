"""The last errors of a run's jobs, from the ends of their logs, each with the file to read."""

import re
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from aworld.rundir import RunDir
from aworld.watch.files import job_rows, names

TAIL = 1 << 14  # bytes of a log that are read
LOGS = 256  # whose ends are looked at, those of the newest jobs first
QUIET = 300.0  # seconds; a log that was written since may be of a job that Slurm was not asked of yet
ERROR = re.compile(r"(?:(?:slurmstepd|srun|sbatch): )?error: (?P<text>.*)")
TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Fault:
    """The last error in a log.

    Attributes:
        stage: whose log it is.
        time: when the log was last written, in seconds since 1970.
    """

    stage: str
    text: str
    path: Path
    time: float


@dataclass
class Faults:
    """The last errors of a run's jobs, looked for again and again."""

    run: RunDir
    _over: dict[Path, Fault | None] = field(default_factory=dict)  # of logs that nobody writes any more

    def look(self, queued: Container[str], most: int = 20) -> list[Fault]:
        """The last errors of the newest jobs, the newest first; one of each log, and one of those that say the same.

        Looks at LOGS files at most, and once only at a log of a job that has left Slurm's queue.

        Args:
            queued: the ids of the jobs in Slurm's queue.
        """
        found: dict[tuple[str, str], Fault] = {}
        before, self._over = self._over, {}
        for row, path in islice(_newest(self.run), LOGS):
            has_left = "elements" in row and str(row["job"]) not in queued  # others are processes of this machine
            if has_left and path in before:
                fault = self._over[path] = before[path]
            else:
                status = path.stat()
                text = _last_error(path, status.st_mtime_ns, status.st_size) if status.st_size else ""
                fault = Fault(row["stage"], text, path, status.st_mtime) if text else None
                if has_left and time.time() - status.st_mtime > QUIET:
                    self._over[path] = fault
            if fault:
                alike = found.get((fault.stage, fault.text), fault)
                found[fault.stage, fault.text] = max(alike, fault, key=lambda each: each.time)
        return sorted(found.values(), key=lambda fault: -fault.time)[:most]


def _newest(run: RunDir) -> Iterator[tuple[dict[str, Any], Path]]:
    """The logs of the newest jobs, each with the job's row."""
    logs, seen = _by_job(names(run.logs)), set()
    for row in reversed(job_rows(run)):
        if (job := str(row["job"])) not in seen:
            seen.add(job)
            yield from ((row, run.logs / name) for name in logs.get(job, ()))


@lru_cache(maxsize=1)
def _by_job(files: tuple[str, ...]) -> dict[str, list[str]]:
    """The names of logs by the id of their job, such as 77_0_log.out."""
    found: dict[str, list[str]] = {}
    for name in sorted(files):
        if "_log." in name:
            found.setdefault(name.partition("_")[0], []).append(name)
    return found


@lru_cache(maxsize=4 * LOGS)
def _last_error(path: Path, _: int, size: int) -> str:
    """The last error that a log ends with or mentions near its end; empty: none. Read again once it has changed."""
    with open(path, "rb") as file:
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).decode(errors="replace").splitlines()
    return next(_errors(lines[::-1]), "")


def _errors(backwards: Iterable[str]) -> Iterator[str]:
    """The errors in lines that come last first. That of a traceback is its first line without an indent."""
    raised = ""
    for line in backwards:
        if found := ERROR.fullmatch(line.rstrip()):
            yield found["text"]
        elif line.startswith(TRACEBACK) and raised:
            yield raised
        elif line and not line[0].isspace():
            raised = line.rstrip()
