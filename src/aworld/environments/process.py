"""One contained server process and the MCP messages to and from it.

It cuts long strings, gives up on a process that floods it, and says why in `broken`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aworld.environments.jsonlines import LINE_BYTES, JsonLines
from aworld.environments.mcp_session import LineSession, message_of
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Launch
from aworld.processes import put_behind

BLOCK_BYTES = 1 << 16
CALL_BYTES = 64 << 20  # all that is read from the last request of ours on
CALL_LINES = 10_000
STDERR_BYTES = 16 << 20  # of a process's whole life
STDERR_TAIL = 2000
LAST_WORDS_SECONDS = 1.0  # for the end of its stderr, once it has ended
EXIT_SECONDS = 5.0  # the kernel's time to bury a killed process


class ServerProcess:
    """A process that speaks MCP over stdio; `broken` is empty until something went wrong with it."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.broken = ""
        self._process = process
        self._stderr = b""
        self._bytes = self._lines = 0

    @classmethod
    async def start(cls, launch: Launch) -> "ServerProcess":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        put_behind(process.pid)
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """The last lines of its stderr, and of the lines on its stdout that are not MCP."""
        return self._stderr[-STDERR_TAIL:].decode("utf-8", "replace").strip()

    def expect(self) -> None:
        """Reset the count of bytes read: a request follows, and the limit is per request."""
        self._bytes = self._lines = 0

    def kill(self, reason: str) -> None:
        """End the process and all its descendants now; the first reason stays."""
        if self.broken and self._process.returncode is not None:
            return  # done, and by now its number may be another's
        self.broken = self.broken or reason
        kill(descendants(self.pid))
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)  # bubblewrap ends; the reaper buries first whatever was forked meanwhile

    async def close(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill("closed")
        try:
            await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        except TimeoutError:
            self._process.kill()
            with suppress(TimeoutError):  # a stray that kept our pipe open must not keep us
                await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        self._process._transport.close()  # type: ignore[attr-defined]  # there is no public way to close the pipes

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LineSession]:
        """A session with the server, which has been greeted. It ends when the process breaks.

        Raises:
            ServerError: the server did not answer the greeting.
        """
        session = LineSession(self._write)
        draining = asyncio.create_task(self._drain_stderr())
        tasks = [draining, asyncio.create_task(self._read(session, draining))]
        try:
            await session.begin()
            yield session
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self, session: LineSession, draining: asyncio.Task[None]) -> None:
        stdout = self._process.stdout
        assert stdout
        lines = JsonLines()
        try:
            while block := await stdout.read(BLOCK_BYTES):
                self._bytes += len(block)
                for line in lines.feed(block):
                    self._lines += 1
                    message = message_of(line)
                    if message is None:  # a library's greeting, a forgotten print
                        self._said(line[:STDERR_TAIL] + b"\n")
                    else:
                        session.receive(message)
                if self._bytes > CALL_BYTES or self._lines > CALL_LINES:
                    self.kill("it flooded its stdout")
                    return
                await asyncio.sleep(0)  # to others, however fast it writes
            self.kill("it ended")
            await asyncio.wait([draining], timeout=LAST_WORDS_SECONDS)
        except OverflowError:
            self.kill(f"it wrote a line over {LINE_BYTES} bytes")
        finally:
            session.end(self.broken)

    def _write(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin
        stdin.write(line)  # without waiting: a server that does not read is found by the time limit of its call

    async def _drain_stderr(self) -> None:
        stderr = self._process.stderr
        assert stderr
        total = 0
        while block := await stderr.read(1 << 16):
            total += len(block)
            self._said(block)
            if total > STDERR_BYTES:
                self.kill("it flooded its stderr")
                return

    def _said(self, words: bytes) -> None:
        self._stderr = (self._stderr + words)[-STDERR_TAIL:]
