"""`python` with a memory: one interpreter per episode, which keeps its variables from call to call.

Code that runs too long is interrupted, and the variables stay; where it will not be interrupted, or where the code ends
the interpreter, the next call finds a new one, and the result says so.
"""

import fcntl
import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from typing import NamedTuple

from aworld.tools.common import execute, run_code
from aworld.tools.common.result import Result, error
from aworld.tools.common.server import ToolServer

GRACE = 0.15  # of the limit: for an interrupt to get through


class Interpreter(NamedTuple):
    """A running interpreter and its streams. A request is a length of 8 bytes, then the code."""

    process: execute.Child
    stdout: int
    stderr: int
    requests: socket.socket
    files: ExitStack

    def ask(self, code: bytes, limit: float) -> None:
        self.requests.settimeout(limit)
        with suppress(OSError):  # it has ended or does not read, which its reply tells
            self.requests.sendall(len(code).to_bytes(8, "big") + code)

    def reply(self, limit: float) -> bytes | None:
        """The exit status of the code as one byte; none: it has ended; None: no reply after `limit` seconds."""
        self.requests.settimeout(limit)
        try:
            return self.requests.recv(1)
        except TimeoutError:
            return None
        except OSError:
            return b""


class Session:
    """One interpreter after the other; the first is started when it is needed."""

    def __init__(self) -> None:
        self._interpreter: Interpreter | None = None

    def run(self, code: str, limit: float) -> Result:
        one = self._interpreter = self._interpreter or start()
        for stream in (one.stdout, one.stderr):
            os.ftruncate(stream, 0)
        one.ask(code.encode("utf-8", "replace"), limit)
        reply = one.reply(limit)
        if late := reply is None:
            os.kill(one.process.pid, signal.SIGINT)
            reply = one.reply(limit * GRACE)
        status = reply[0] if reply else end(one)
        told = execute.result(None if late else status, limit, execute.read(one.stdout), execute.read(one.stderr))
        if reply:
            return told
        self._interpreter = None
        one.files.close()
        return error(f"{told.text}\n[its variables are gone]")


def start() -> Interpreter:
    """A new interpreter that has run nothing."""
    with ExitStack() as files:
        stdout, stderr = (files.enter_context(execute.memory_file()) for _ in range(2))
        for stream in (stdout, stderr):  # so that writing goes on at the beginning once they are emptied
            fcntl.fcntl(stream, fcntl.F_SETFL, os.O_APPEND)
        ours, its = map(files.enter_context, socket.socketpair())
        with its, open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), stdout, stderr)
            process = run_code.copy(lambda output: answer(its, output), streams, (its.fileno(),))
        execute.kept.add(process.pid)
        return Interpreter(process, stdout, stderr, ours, files.pop_all())


def answer(requests: socket.socket, output: run_code.Output) -> int:
    """Run one piece of code after the other; their variables stay."""
    variables = run_code.module()
    with requests.makefile("rb") as pieces:
        while size := pieces.read(8):
            code, status = pieces.read(int.from_bytes(size, "big")).decode(), 1
            try:
                try:
                    signal.signal(signal.SIGINT, signal.default_int_handler)  # how it is told that its time is up
                    status = run_code.run(code, variables, output)
                finally:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    output.flush()
            except BaseException as error:
                status = 1
                sys.stderr.write(run_code.failure(error))
            sys.stderr.flush()
            requests.send(bytes([status]))
    return 0


def end(one: Interpreter) -> int | None:
    """Kill the interpreter, unless it has ended, and all it started; returns its exit status."""
    execute.kept.discard(one.process.pid)
    execute.bury(one.process)
    return one.process.returncode


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    session = Session()

    def python(code: str) -> Result:
        return session.run(code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code. Variables stay.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python_session"])
