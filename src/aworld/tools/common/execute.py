"""What tools share that start a process: nothing of it runs on, and no output is lost, when the call is over."""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from aworld.tools.common.paths import existing
from aworld.tools.common.result import Result, error, text

MAX_BYTES = 50_000  # of output
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

one_at_a_time = asyncio.Lock()
kept: set[int] = set()  # processes that are not over when a call is


class Process(Protocol):
    """A process that leads a session of its own."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """Its exit status or, below zero, the signal that ended it; None: it runs."""

    async def wait(self) -> int: ...


Start = Callable[[int, int, int], Awaitable[Process]]  # of the file descriptors of stdin, stdout and stderr


def adopt_orphans() -> None:
    """Become the parent of whatever a command leaves behind; call it once, before the first `run`."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def seconds_of(tool: str) -> float:
    """Time limit of a call of this tool."""
    return float(os.environ.get(f"AWORLD_{tool.upper()}_SECONDS") or os.environ.get("AWORLD_CALL_SECONDS", "10"))


async def work(name: str, tool: str, **arguments: object) -> Result:
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
    return await run(child, json.dumps(arguments), seconds_of(tool))


async def run(command: Sequence[str | Path], told: str, limit: float, joined: bool = False) -> Result:
    """Run a command for at most `limit` seconds, with `told` on its stdin; its output, or why there is none.

    Args:
        joined: whether stderr is part of the output; else its last line is the reason of a failure.
    """

    async def start(stdin: int, stdout: int, stderr: int) -> Process:
        argv = ("setpriv", "--pdeathsig", "KILL", "--", *command)
        aside = stdout if joined else stderr
        return await asyncio.create_subprocess_exec(
            *argv, stdin=stdin, stdout=stdout, stderr=aside, start_new_session=True
        )

    return await run_process(start, told, limit)


async def run_process(start: Start, told: str, limit: float) -> Result:
    """As `run`, with a process that `start` begins."""
    async with one_at_a_time:  # leftover processes are found as our children, so calls run one at a time
        with memory_file() as stdin, memory_file() as stdout, memory_file() as stderr:
            os.pwrite(stdin, told.encode("utf-8", "replace"), 0)
            process: Process | None = None
            try:
                process = await start(stdin, stdout, stderr)
                status: int | None = await asyncio.wait_for(process.wait(), limit)
            except TimeoutError:
                status = None
            finally:
                await bury(process)
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


async def bury(process: Process | None) -> None:
    """Kill the code and all it started: as a subreaper we become the parent of whatever it leaves behind."""
    if process and process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            with suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                os.kill(process.pid, signal.SIGKILL)  # it leads no session yet
        await process.wait()
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """Children of the main thread, which starts processes and is the first to adopt orphans."""
    found = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    return [pid for pid in found if pid not in kept]
