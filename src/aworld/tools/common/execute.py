"""What tools share that start a process: nothing of it runs on, and no output is lost, when the call is over."""

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aworld.tools.common.paths import existing
from aworld.tools.common.result import Result, error, text

MAX_BYTES = 50_000  # of output
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

prctl = ctypes.CDLL(None).prctl
kept: set[int] = set()  # processes that are not over when a call is


class Child:
    """A child of this process that leads a session of its own.

    Attributes:
        returncode: its exit status or, below zero, the signal that ended it; None: nobody has waited for its end.
    """

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None
        self._waiter = threading.Thread(target=self._wait, daemon=True)

    def wait(self, limit: float | None = None) -> int | None:
        """Wait for its end, at most so many seconds; returns `returncode`."""
        if self._waiter.ident is None:
            if limit is None:
                self._wait()  # also where no thread can start
                return self.returncode
            self._waiter.start()
        self._waiter.join(limit)
        return self.returncode

    def _wait(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


Start = Callable[[int, int, int], Child]  # of the file descriptors of stdin, stdout and stderr


def adopt_orphans() -> None:
    """Become the parent of whatever a command leaves behind; call it once, before the first `run`."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def seconds_of(tool: str) -> float:
    """Time limit of a call of this tool."""
    return float(os.environ.get(f"AWORLD_{tool.upper()}_SECONDS") or os.environ.get("AWORLD_CALL_SECONDS", "10"))


def work(name: str, tool: str, **arguments: object) -> Result:
    """Let the function `tool` of the module `work.NAME` do it, in a process of its own.

    What it imports and holds is gone with it, and what its libraries do to a damaged file does not harm the server. An
    argument `path` is a file of the working folder.
    """
    if "path" in arguments:
        try:
            arguments["path"] = str(existing(str(arguments["path"])).relative_to(Path.cwd().resolve()))
        except ValueError as reason:
            return error(str(reason))
    # -P: a file of the agent's is not taken for a library of the same name
    child = (sys.executable, "-P", "-m", "aworld.tools.work", name, tool)
    return run(child, json.dumps(arguments), seconds_of(tool))


def run(command: Sequence[str | Path], told: str, limit: float, joined: bool = False) -> Result:
    """Run a command for at most `limit` seconds, with `told` on its stdin; its output, or why there is none.

    Args:
        joined: whether stderr is part of the output; else its last line is the reason of a failure.
    """

    def start(stdin: int, stdout: int, stderr: int) -> Child:
        argv = ("setsid", "setpriv", "--pdeathsig", "KILL", "--", *command)
        streams = enumerate((stdin, stdout, stdout if joined else stderr))
        actions = [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in streams]
        usual = (signal.SIGPIPE, signal.SIGXFSZ)  # Python itself ignores them
        return Child(os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsigdef=usual))

    return run_process(start, told, limit)


def run_process(start: Start, told: str, limit: float) -> Result:
    """As `run`, with a process that `start` begins."""
    with memory_file() as stdin, memory_file() as stdout, memory_file() as stderr:
        os.pwrite(stdin, told.encode("utf-8", "replace"), 0)
        process = start(stdin, stdout, stderr)
        try:
            status = process.wait(limit)
        finally:
            bury(process)
        return result(status, limit, read(stdout), read(stderr))


def result(status: int | None, limit: float, out: str, err: str) -> Result:
    if status == 0:
        return text(out or "(no output)")
    if status is None:
        reason = f"stopped: ran longer than {limit:g} s"
    elif status < 0:
        reason = f"killed by {signal.Signals(-status).name}"
    else:
        reason = err.rpartition("\n")[2] or f"exit status {status}"
    return error(f"{out}\n{reason}" if out else reason)


@contextmanager
def memory_file() -> Iterator[int]:
    """A file for a stream: unlike a pipe it needs no reader, cannot block, and RLIMIT_FSIZE caps it."""
    fd = os.memfd_create("stream")
    try:
        yield fd
    finally:
        os.close(fd)


def read(fd: int) -> str:
    content = os.pread(fd, MAX_BYTES, 0).decode("utf-8", "replace").strip()
    return content + "\n[output cut]" if os.fstat(fd).st_size > MAX_BYTES else content


def bury(process: Child) -> None:
    """Kill the code and all it started: as a subreaper we become the parent of whatever it leaves behind."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            with suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                os.kill(process.pid, signal.SIGKILL)  # it leads no session yet
        process.wait()
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """Children of the main thread, which starts processes and is the first to adopt orphans."""
    found = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    return [pid for pid in found if pid not in kept]
