"""Files of a run that are looked at again and again: they are read, or listed, again once they have changed."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from aworld.publish import read_jsonl
from aworld.rundir import RunDir

SETTLED = 5.0  # seconds; a folder that changed later is listed again, as some file systems count whole seconds
Rows = list[dict[str, Any]]


def names(folder: Path) -> tuple[str, ...]:
    """The names in a folder of logs or of starts, which may hold tens of thousands; none where it is missing."""
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return ()
    return _names(folder, changed, 0 if time.time() - changed / 1e9 > SETTLED else time.monotonic_ns())


def job_rows(run: RunDir) -> Rows:
    """The rows of `jobs.jsonl`."""
    return _jobs(run.jobs, *status) if (status := _status(run.jobs)) else []


def starts(path: Path) -> Rows:
    """The starts of a task; none where the file is missing."""
    return _starts(path, *status) if (status := _status(path)) else []


def _status(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _names(folder: Path, _: int, __: int) -> tuple[str, ...]:
    return tuple(path.name for path in folder.iterdir())


@lru_cache(maxsize=1)  # a long run has thousands of rows: only the newest are kept
def _jobs(path: Path, _: int, __: int) -> Rows:
    return read_jsonl(path)


@lru_cache(maxsize=4096)
def _starts(path: Path, _: int, __: int) -> Rows:
    return read_jsonl(path)
