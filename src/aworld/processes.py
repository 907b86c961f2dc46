"""Processes that end when they should: none outlives its parent, none runs twice, each hears when its time is up."""

import ctypes
import errno
import fcntl
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from aworld.errors import InfrastructureError

STARTER = "AWORLD_STARTER"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # Lustre mounted without -o flock, NFS without lockd
_KILL_SECONDS = 10.0  # for Linux to end a process that was sent SIGKILL
_SOON = (signal.SIGUSR1, signal.SIGUSR2)


def die_with_parent() -> None:
    """Ask Linux for a SIGKILL when the parent ends, however it ends. Fit to be a `preexec_fn`."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_starter() -> None:
    """End with SIGKILL when the process does that the variable AWORLD_STARTER names, if there is one, on this node.

    For programs that may run in a container: Apptainer, between the two, makes Linux forget `die_with_parent`.
    """
    starter = int(os.environ.get(STARTER, 0))

    def follow() -> None:
        with suppress(ProcessLookupError):  # it has ended already
            ended = select.poll()
            ended.register(os.pidfd_open(starter), select.POLLIN)
            ended.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    if starter:
        threading.Thread(target=follow, daemon=True).start()


def end_by_interrupt() -> None:
    """Let TERM and HUP end this process as Ctrl-C does, so that a launcher takes its jobs with it; not what is ignored,
    as HUP is under nohup."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


class Notice:
    """Word that this process has to end: USR1 or USR2 say soon, TERM says now. Make it in the main thread.

    USR1 and USR2 are blocked here and so, by inheritance, in every process started from now on: Slurm sends a job's
    signal to all processes of its steps, and by default it would kill vLLM and the tool servers.

    Attributes:
        soon, now: what was heard so far; `now` implies `soon`.
    """

    def __init__(self, tell: Callable[[], None] = lambda: None):
        """`tell` is called, in any thread, after each word."""
        self.soon = self.now = False
        self._tell = tell
        for number in (*_SOON, signal.SIGTERM):  # a library's thread that is older may not block them
            signal.signal(number, lambda heard, _: self._hear(heard))
        signal.pthread_sigmask(signal.SIG_BLOCK, _SOON)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self._hear(signal.sigwait(_SOON))

    def _hear(self, number: int) -> None:
        self.soon, self.now = True, self.now or number == signal.SIGTERM
        self._tell()


@contextmanager
def sole_holder(path: Path) -> Iterator[None]:
    """Hold the lock at `path`, with our node and process id in it.

    Raises:
        InfrastructureError: another process holds it.
    """
    with try_to_hold(path) as is_ours:
        if not is_ours:
            mend = f"wait for it, or end it: aworld cancel {path.parent.parent}"
            raise InfrastructureError(f"{holder(path)} is already doing this work ({path}); {mend}")
        yield


@contextmanager
def hold(path: Path, poll: float = 0.2) -> Iterator[None]:
    """Hold the lock at `path`; while another process does, wait."""
    while True:
        with try_to_hold(path) as is_ours:
            if is_ours:
                yield
                return
        time.sleep(poll)


@contextmanager
def try_to_hold(path: Path) -> Iterator[bool]:
    """Whether the lock at `path` is ours; our node and process id are in it then.

    It holds against processes of this node; on another node only where the file system shares its locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as f:
        if not _lock(f, fcntl.LOCK_EX):
            yield False
            return
        f.truncate(0)
        f.write(f"{os.uname().nodename} {os.getpid()}")
        f.flush()
        os.fdatasync(f.fileno())  # NFS would keep it on this node for a while
        yield True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at `path`: one of this node, or of any where the file system shares its locks.

    Where it has no locks, none is held.
    """
    with open(path) as f:
        return not _lock(f, fcntl.LOCK_SH)


def holder(path: Path) -> str:
    """Who holds the lock at `path`, or was the last to, in words."""
    node, pid = _holder(path.read_text())
    return f"process {pid} on node {node}" if pid else "an unknown process"


def end_holder(path: Path, patience: float = 20.0) -> bool:
    """End the process that holds the lock at `path`: SIGTERM, then SIGKILL. Returns whether there was one.

    Raises:
        InfrastructureError: it runs on another node, or holds the lock still after SIGKILL.
    """
    found = killed = False
    give_up = time.monotonic() + patience
    while path.exists():
        with open(path, "r+") as f:
            if _lock(f, fcntl.LOCK_EX):
                return found
            node, pid = _holder(f.read())
        if pid and node != os.uname().nodename:
            raise InfrastructureError(f"process {pid} is at work on node {node} ({path}); end it there")
        is_late = time.monotonic() > give_up
        if is_late and (killed or not pid):
            raise InfrastructureError(f"{path} is held, and {holder(path)} does not end; end it by hand")
        if pid and (not found or is_late):
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            found, killed = True, is_late
            give_up = time.monotonic() + _KILL_SECONDS if is_late else give_up
        time.sleep(0.1)
    return found


def _lock(f: TextIO, kind: int) -> bool:
    """Whether the lock is ours now; it is, too, where the file system has none."""
    try:
        fcntl.flock(f, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _holder(text: str) -> tuple[str, int]:
    """The node and process id in a lock's text; 0 while they are being written."""
    node, _, pid = text.partition(" ")
    return node, int(pid or 0)
