"""A session with one contained server process, over stdio.

It cuts long strings, gives up on a process that floods it or does not read, and says why in `broken`.
"""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from aworld.environments.jsonlines import LINE_BYTES, JsonLines
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Launch
from aworld.environments.session import SessionError
from aworld.processes import behind
from aworld.tools.common.result import valid_utf8
from aworld.tools.common.server import NO_METHOD, VERSIONS

BLOCK_BYTES = 1 << 16
CALL_BYTES = 64 << 20  # all that is read from the last call on; before the first, since the start
CALL_LINES = 10_000
UNREAD_BYTES = 1 << 20  # of replies to the server's own requests
ID_CHARS = 18  # of a number in a string; longer ones are none of ours
STDERR_BYTES = 16 << 20  # of a process's whole life
STDERR_TAIL = 2000
EXIT_SECONDS = 5.0  # the kernel's time to bury a killed process
READ_SECONDS = 1.0  # for what a dead process has written, unless a stray keeps its pipes open


class ServerProcess:
    """A process that speaks MCP over stdio. See `Session`."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.broken = ""
        self._process = process
        self._stderr = b""
        self._bytes = self._lines = 0
        self._numbers = count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}  # that are waited for, by the request's number
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._drain_stderr())]

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

    async def open(self) -> None:
        client = {"capabilities": {}, "clientInfo": {"name": "aworld", "version": "1"}}
        version = (await self.ask("initialize", {"protocolVersion": VERSIONS[0], **client})).get("protocolVersion")
        if version not in VERSIONS:
            raise SessionError(f"it speaks version {version!r:.100} of the protocol, and none of {', '.join(VERSIONS)}")
        await self._send({"method": "notifications/initialized"})

    async def ask(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if self.broken:
            raise SessionError(self.broken)
        if method == "tools/call":
            self._bytes = self._lines = 0  # the limit is per call
        number = next(self._numbers)
        self._replies[number] = reply = asyncio.get_running_loop().create_future()
        try:
            await self._send({"id": number, "method": method, "params": parameters})
            return await reply
        finally:
            del self._replies[number]

    def kill(self, reason: str) -> None:
        """End the process and all its descendants now; the first reason stays."""
        if self.broken and self._process.returncode is not None:
            return  # done, and by now its number may be another's
        self.broken = self.broken or reason
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(SessionError(self.broken))
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
        await asyncio.wait(self._tasks, timeout=READ_SECONDS)
        self._process._transport.close()  # type: ignore[attr-defined]  # there is no public way to close the pipes
        for task in self._tasks:
            task.cancel()

    async def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin
        try:
            stdin.write(json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode() + b"\n")
            await stdin.drain()
        except OSError as reason:
            self.kill(f"writing to it failed: {reason}")

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout
        lines = JsonLines()
        try:
            while block := await stdout.read(BLOCK_BYTES):
                self._bytes += len(block)
                for line in lines.feed(block):
                    self._lines += 1
                    if message := _message(line):
                        self._take(message)
                    else:  # a library's greeting, a forgotten print
                        self._said(line[:STDERR_TAIL] + b"\n")
                if self._bytes > CALL_BYTES or self._lines > CALL_LINES:
                    self.kill("it flooded its stdout")
                    return
            self.kill("it ended")
        except OverflowError:
            self.kill(f"it wrote a line over {LINE_BYTES} bytes")

    def _take(self, message: dict[str, Any]) -> None:
        """Take a reply to whom it is for, and answer a request of the server. We act on no notification."""
        number = message.get("id")
        if isinstance(message.get("method"), str):
            if isinstance(number, int | str):
                refusal = {"error": {"code": NO_METHOD, "message": "this client has tools called, and no more"}}
                self._answer({"id": number, **({"result": {}} if message["method"] == "ping" else refusal)})
            return
        if isinstance(number, str) and number.isdecimal() and len(number) < ID_CHARS:
            number = int(number)  # some servers make strings of all ids
        reply = self._replies.get(number) if isinstance(number, int) else None
        if reply is None or reply.done():
            return
        if isinstance(result := message.get("result"), dict):
            reply.set_result(result)
        else:
            reply.set_exception(SessionError(_refusal(message)))

    def _answer(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin
        stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        if stdin.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.kill("it asks, and does not read the replies")

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


def _message(line: bytes) -> dict[str, Any] | None:
    """The message that a line holds; None where it holds none."""
    try:
        message = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else None


def _refusal(reply: dict[str, Any]) -> str:
    """What a reply without a result says."""
    match reply:
        case {"error": {"message": str(said)}}:
            return valid_utf8(said)
    return "its reply has neither a result nor the message of an error"
