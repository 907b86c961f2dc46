"""One contained server process and the MCP messages to and from it.

The SDK's own stdio transport buffers a line without limit and takes seconds to stop a server that hangs. This one cuts
long strings, gives up on a process that floods it, and says why in `broken`.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import mcp_types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from aworld.environments.jsonlines import LINE_BYTES, JsonLines
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Launch
from aworld.processes import behind

FromServer = MemoryObjectReceiveStream[SessionMessage | Exception]
ToServer = MemoryObjectSendStream[SessionMessage]

BLOCK_BYTES = 1 << 16
CALL_BYTES = 64 << 20  # all that is read from the last request of ours on
CALL_LINES = 10_000
STDERR_BYTES = 16 << 20  # of a process's whole life
STDERR_TAIL = 2000
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
            *behind(launch.argv),
            env=launch.env,
            cwd=launch.cwd,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
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
    async def transport(self) -> AsyncIterator[tuple[FromServer, ToServer]]:
        """The streams of an `mcp.Client`; they close when the process breaks."""
        to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, to_session)
            tasks.start_soon(self._write, from_session)
            tasks.start_soon(self._drain_stderr)
            try:
                yield from_server, to_server
            finally:
                tasks.cancel_scope.cancel()
                for stream in (to_session, from_server, to_server, from_session):
                    stream.close()

    async def _read(self, to_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        stdout = self._process.stdout
        assert stdout
        lines = JsonLines()
        with to_session:
            try:
                while block := await stdout.read(BLOCK_BYTES):
                    self._bytes += len(block)
                    for line in lines.feed(block):
                        self._lines += 1
                        message = _message(line)
                        if message is None:  # a library's greeting, a forgotten print
                            self._said(line[:STDERR_TAIL] + b"\n")
                        elif not isinstance(message, mcp_types.JSONRPCNotification):  # we act on none of those
                            await to_session.send(SessionMessage(message))
                    if self._bytes > CALL_BYTES or self._lines > CALL_LINES:
                        self.kill("it flooded its stdout")
                        return
                self.kill("it ended")
            except OverflowError:
                self.kill(f"it wrote a line over {LINE_BYTES} bytes")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the session closed first

    async def _write(self, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
        stdin = self._process.stdin
        assert stdin
        try:
            async for message in from_session:
                stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await stdin.drain()
        except (OSError, ValueError) as reason:  # ValueError: pydantic's, for what JSON cannot hold
            self.kill(f"writing to it failed: {reason}")

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


def _message(line: bytes) -> mcp_types.JSONRPCMessage | None:
    """The message that a line holds; None where it holds none."""
    parse = mcp_types.jsonrpc_message_adapter.validate_json
    try:
        try:
            return parse(line, by_name=False)
        except ValueError:
            # JavaScript writes halves of surrogate pairs where it cuts a text, others what is no UTF-8
            content = json.dumps(json.loads(line.decode("utf-8", "replace")), ensure_ascii=False)
            return parse(content.encode("utf-8", "replace"), by_name=False)
    except (ValueError, RecursionError):
        return None
