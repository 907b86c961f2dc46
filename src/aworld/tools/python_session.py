"""`python` with a memory: one interpreter per episode, which keeps its variables from call to call.

Code that runs too long is interrupted, and the variables stay; where it will not be interrupted, or where the code ends
the interpreter, the next call finds a new one, and the result says so.
"""

import asyncio
import fcntl
import os
import signal
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from aworld.tools.common import execute
from aworld.tools.common.result import Result, error
from aworld.tools.common.server import ToolServer
from aworld.tools.python import interpreter

GRACE = 0.15  # of the limit: for an interrupt to get through


@dataclass
class Interpreter:
    """A running interpreter and its streams."""

    process: asyncio.subprocess.Process
    stdout: int
    stderr: int
    replies: asyncio.StreamReader
    requests: asyncio.StreamWriter
    files: ExitStack


class Session:
    """One interpreter after the other; the first is started when it is needed."""

    def __init__(self) -> None:
        self._interpreter: Interpreter | None = None

    async def run(self, code: str, limit: float) -> Result:
        async with execute.one_at_a_time:
            one = self._interpreter = self._interpreter or await start()
            for stream in (one.stdout, one.stderr):
                os.ftruncate(stream, 0)
            request = code.encode("utf-8", "replace")
            one.requests.write(len(request).to_bytes(8, "big") + request)
            reply = asyncio.ensure_future(one.replies.read(1))
            try:
                await asyncio.wait({reply}, timeout=limit)
                late = not reply.done()
                if late:
                    with suppress(ProcessLookupError):
                        one.process.send_signal(signal.SIGINT)
                    await asyncio.wait({reply}, timeout=limit * GRACE)
                byte = reply.result() if reply.done() and not reply.exception() else b""
                status = int(byte != b"0") if byte else await end(one)
                told = execute.result(
                    None if late else status, limit, execute.read(one.stdout), execute.read(one.stderr)
                )
                if byte:
                    return told
                self._interpreter = None
                one.files.close()
                return error(f"{told.text}\n[its variables are gone]")
            finally:
                reply.cancel()


async def start() -> Interpreter:
    """A new interpreter that has run nothing."""
    files = ExitStack()
    stdout, stderr = (files.enter_context(execute.memory_file()) for _ in range(2))
    for stream in (stdout, stderr):  # so that writing goes on at the beginning once they are emptied
        fcntl.fcntl(stream, fcntl.F_SETFL, os.O_APPEND)
    ours, its = socket.socketpair()
    with its:
        process = await asyncio.create_subprocess_exec(
            *interpreter("session", its.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(its.fileno(),),
            start_new_session=True,
        )
    execute.kept.add(process.pid)
    replies, requests = await asyncio.open_connection(sock=ours)
    files.callback(requests.close)
    return Interpreter(process, stdout, stderr, replies, requests, files)


async def end(one: Interpreter) -> int | None:
    """Kill the interpreter, unless it has ended, and all it started; returns its exit status."""
    execute.kept.discard(one.process.pid)
    await execute.bury(one.process)
    return one.process.returncode


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    session = Session()

    async def python(code: str) -> Result:
        return await session.run(code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code. Variables stay.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python_session"])
