"""Lock files: one process at a time does a piece of work, and others see which.

A lock holds against processes of this node; against those of other nodes only where the file system shares its locks.
Where the file system has none (Lustre mounted without -o flock, NFS without lockd) each process believes it is alone.
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TextIO

from aworld.errors import InfrastructureError

FIRST_PAUSE = 0.1  # seconds, of who waits for a lock
KILL_SECONDS = 10.0  # for Linux to end a process that was sent SIGKILL
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


def acquire(file: TextIO | int, kind: int) -> Literal["acquired", "held", "unsupported"]:
    """Try to lock an open file, without waiting.

    Args:
        kind: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.

    Returns:
        "acquired": the lock is ours until the file is closed; "held": another process holds it; "unsupported": the file
        system has no locks.

    Raises:
        OSError: any other failure of the file system.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return "unsupported"
    return "acquired"


@contextmanager
def sole_holder(path: Path) -> Iterator[None]:
    """Hold the lock at `path`.

    Raises:
        InfrastructureError: another process holds it.
    """
    with try_to_hold(path) as is_ours:
        if not is_ours:
            mend = f"wait for it, or end it: aworld cancel {path.parent.parent}"
            raise InfrastructureError(f"{holder(path)} is already doing this work ({path}); {mend}")
        yield


@contextmanager
def hold(path: Path, poll: float) -> Iterator[None]:
    """Hold the lock at `path`; wait while another process holds it.

    Args:
        poll: seconds between two looks, at most. The first ones follow each other faster.
    """
    pause = FIRST_PAUSE
    while True:
        with try_to_hold(path) as is_ours:
            if is_ours:
                yield
                return
        time.sleep(min(pause, poll))
        pause *= 2


@contextmanager
def try_to_hold(path: Path) -> Iterator[bool]:
    """Whether the lock at `path` is ours; then our node and process id are written in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as f:
        if acquire(f, fcntl.LOCK_EX) == "held":
            yield False
            return
        f.truncate(0)
        f.write(f"{os.uname().nodename} {os.getpid()}")
        f.flush()
        os.fdatasync(f.fileno())  # NFS would keep the text on this node for a while
        yield True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at `path`."""
    with open(path) as f:
        return acquire(f, fcntl.LOCK_SH) == "held"


def holder(path: Path) -> str:
    """The process that holds the lock at `path`, or was the last to, as a phrase for a message."""
    node, pid = _parse(path.read_text())
    return f"process {pid} on node {node}" if pid else "an unknown process"


def end_holder(path: Path, term_seconds: float = 20.0) -> bool:
    """End the process that holds the lock at `path`: SIGTERM, then SIGKILL. Returns whether there was one.

    Args:
        term_seconds: how long it may take to end after SIGTERM.

    Raises:
        InfrastructureError: it runs on another node, or still holds the lock after SIGKILL.
    """
    found = killed = False
    give_up = time.monotonic() + term_seconds
    while path.exists():
        with open(path, "r+") as f:
            if acquire(f, fcntl.LOCK_EX) != "held":
                return found
            node, pid = _parse(f.read())
        if pid and node != os.uname().nodename:
            raise InfrastructureError(f"process {pid} is at work on node {node} ({path}); end it there")
        is_late = time.monotonic() > give_up
        if is_late and (killed or not pid):
            raise InfrastructureError(f"{path} is held, and {holder(path)} does not end; end it by hand")
        if pid and (not found or is_late):
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            found, killed = True, is_late
            give_up = time.monotonic() + KILL_SECONDS if is_late else give_up
        time.sleep(0.1)
    return found


def _parse(text: str) -> tuple[str, int]:
    """The node and process id in a lock's text; "" and 0 while they are being written."""
    node, _, pid = text.partition(" ")
    return node, int(pid or 0)
