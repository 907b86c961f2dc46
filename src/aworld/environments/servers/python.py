"""`python`: code in a fresh interpreter of its own, of which nothing runs on when the call is over."""

import asyncio
import ctypes
import os
import signal
import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers.result import error, text

RUN_CODE = Path(__file__).with_name("run_code.py")
MAX_BYTES = 50_000  # of output
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

_one_at_a_time = asyncio.Lock()


async def python(code: str) -> CallToolResult:
    limit = float(os.environ.get("AWORLD_CODE_SECONDS", "10"))
    async with _one_at_a_time:  # what a call leaves behind is told by being a child of ours
        with _memory_file() as stdin, _memory_file() as stdout, _memory_file() as stderr:
            os.pwrite(stdin, code.encode("utf-8", "replace"), 0)
            # -I -S: 13 ms instead of 20; the installed packages are put on the path by hand
            interpreter = (sys.executable, "-I", "-S", RUN_CODE, os.pathsep.join(site.getsitepackages()))
            argv = ("setpriv", "--pdeathsig", "KILL", "--", *interpreter)
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
            try:
                status: int | None = await asyncio.wait_for(process.wait(), limit)
            except TimeoutError:
                status = None
            finally:
                await _kill(process)
            return _result(status, limit, _read(stdout), _read(stderr))


def _result(status: int | None, limit: float, out: str, err: str) -> CallToolResult:
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
def _memory_file() -> Iterator[int]:
    """A file for a stream: unlike a pipe it needs no reader, cannot block, and RLIMIT_FSIZE caps it."""
    fd = os.memfd_create("stream")
    try:
        yield fd
    finally:
        os.close(fd)


def _read(fd: int) -> str:
    content = os.pread(fd, MAX_BYTES, 0).decode("utf-8", "replace").strip()
    return content + "\n[output cut]" if os.fstat(fd).st_size > MAX_BYTES else content


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the code and all it started: as a subreaper we become the parent of whatever it leaves behind."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """Those of the main thread: the one that starts processes, and the first that orphans are given to."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def add_to(server: MCPServer) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    server.add_tool(python, description="Run Python code.", structured_output=False)


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["python"])
