"""A user's agent program, which runs once per episode: it reads the question, and prints its answer last."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aworld import config as schema
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Contents, Launch, Sandbox
from aworld.errors import InfrastructureError
from aworld.processes import behind

FORWARDER = Path(__file__).with_name("forwarder.py")
OUTPUT_BYTES = 16 << 20  # of its stdout, and of its stderr
TAIL_BYTES = 64 << 10  # of each that is kept
REASON_CHARS = 300
EXIT_SECONDS = 5.0  # the kernel's time to bury a killed process


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        last_line: the last line of its stdout that is not empty.
        fault: why it failed; empty where it ended by itself, with exit status 0.
    """

    last_line: str
    fault: str


class Program:
    """A contained program under way."""

    def __init__(self, process: Process, question: str):
        self._process, self._fault = process, ""
        self._output, self._errors = _Tail(), _Tail()
        self._ended = asyncio.create_task(self._until_ended(question))

    @classmethod
    async def start(cls, launch: Launch, question: str) -> "Program":
        """
        Args:
            question: what it reads on its stdin.

        Raises:
            InfrastructureError: its sandbox does not start.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *behind(launch.argv),
                env=launch.env,
                cwd=launch.cwd,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
            )
        except OSError as reason:
            raise InfrastructureError(f"{launch.argv[0]} did not start: {reason}") from None
        return cls(process, question)

    @property
    def pid(self) -> int:
        """Id of the process that leads its session."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ended(self) -> Ended:
        """How it ended, once it has."""
        return await asyncio.shield(self._ended)

    def stop(self, reason: str) -> None:
        """End the program and all its descendants now; the first reason stays."""
        if self.is_alive:
            self._fault = self._fault or reason
            kill(descendants(self.pid))
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)  # bubblewrap ends; the reaper buries whatever was forked meanwhile

    async def close(self) -> None:
        """End it, and wait until it is gone."""
        self.stop("closed")
        try:
            await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        except TimeoutError:
            self._process.kill()
        self._ended.cancel()
        await asyncio.wait({self._ended})
        self._process._transport.close()  # type: ignore[attr-defined]  # there is no public way to close the pipes

    async def _until_ended(self, question: str) -> Ended:
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin and stdout and stderr
        asking = asyncio.create_task(_ask(stdin, question))
        await asyncio.gather(self._read("stdout", stdout, self._output), self._read("stderr", stderr, self._errors))
        code = await self._process.wait()
        asking.cancel()
        said = self._errors.last_line or self._output.last_line or "it said nothing"
        fault = self._fault or (f"exit status {code}: {said[-REASON_CHARS:]}" if code else "")
        return Ended(self._output.last_line, fault)

    async def _read(self, name: str, stream: asyncio.StreamReader, tail: "_Tail") -> None:
        while block := await stream.read(1 << 16):
            tail.feed(block)
            if tail.total > OUTPUT_BYTES:
                self.stop(f"it flooded its {name}")


def launch_of(
    sandbox: Sandbox,
    program: schema.AgentProgram,
    key: str,
    socket: Path,
    scratch: Path,
    limits: schema.Environment,
) -> Launch:
    """The program in a sandbox, in the episode's scratch.

    Args:
        key: of its session at the gateway, which listens on `socket`.
    """
    env = {"OPENAI_API_KEY": key, "PYTHONPATH": "", "AWORLD_LIBRARIES": ""}  # its own libraries, not ours
    seen = [FORWARDER, *map(Path, program.folders)]
    argv = [sandbox.python, "-I", "-S", str(FORWARDER), *program.command]
    return sandbox.launch(argv, Contents(scratch, limits, seen, env, socket))


class _Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = b""

    def feed(self, block: bytes) -> None:
        self.total += len(block)
        self._kept = (self._kept + block)[-TAIL_BYTES:]

    @property
    def last_line(self) -> str:
        lines = (line.strip() for line in reversed(self._kept.decode("utf-8", "replace").splitlines()))
        return next(filter(None, lines), "")


async def _ask(stdin: asyncio.StreamWriter, question: str) -> None:
    with suppress(OSError):  # it need not read
        stdin.write(question.encode(errors="replace"))
        await stdin.drain()
        stdin.close()
