"""The last errors of a run's jobs, from the ends of their logs, each with the file to read."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from aworld.publish import read_jsonl
from aworld.rundir import RunDir

TAIL = 1 << 14  # bytes of a log that are read
LOGS = 256  # whose ends are looked at, those of the newest jobs first
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


def faults(run: RunDir, most: int = 20) -> list[Fault]:
    """The last errors of the newest jobs, the newest first; one of each log, and one of those that say the same.

    Lists the folder of logs, and looks at LOGS files at most. Reads an end of those that were written since.
    """
    found: dict[tuple[str, str], Fault] = {}
    for stage, path in islice(_newest(run), LOGS):
        status = path.stat()
        if status.st_size and (text := _last_error(path, status.st_mtime_ns, status.st_size)):
            fault = Fault(stage, text, path, status.st_mtime)
            before = found.get((stage, text))
            found[stage, text] = fault if before is None else max(before, fault, key=lambda each: each.time)
    return sorted(found.values(), key=lambda fault: -fault.time)[:most]


def _newest(run: RunDir) -> Iterator[tuple[str, Path]]:
    """The logs of the newest jobs, with the stage of each."""
    of_job: dict[str, list[Path]] = {}
    for path in run.logs.glob("*_log.*"):
        of_job.setdefault(path.name.partition("_")[0], []).append(path)
    for row in reversed(read_jsonl(run.jobs)):
        yield from ((row["stage"], path) for path in sorted(of_job.pop(str(row["job"]), [])))


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
