"""Scoring programs run in a sandbox. The worker itself never executes or parses what a policy wrote."""

import asyncio
import json
import math
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.environments import watchdog
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Contents, Sandbox
from aworld.environments.score_server import HEAD, LONGEST_REPLY, framed
from aworld.environments.scratch import empty
from aworld.environments.verify import Verdict, solve, verify
from aworld.errors import InfrastructureError
from aworld.nodelocal import own_folder
from aworld.tasks.task import Container, Program, Undecided, Verification, Worth, worth_of

SERVER = Path(__file__).with_name("score_server.py")
START_SECONDS = 600.0  # to import a library from a slow file system
KEY_BYTES = 16  # of a request, which its reply repeats
GRACE_SECONDS = 5.0  # beyond a call's limit, which the server itself keeps
AT_ONCE = 4  # servers that score
LONGEST_ERROR = 300  # characters

Key = tuple[str, Path, tuple[str, ...]]


@dataclass(eq=False)
class Server:
    """A process that scores with one program, and the folder it works in."""

    key: Key
    process: Process
    scratch: Path


class Scorer:
    """Runs programs in a sandbox, each in a server that starts when it is first needed. An async context manager.

    A program that is busy gets a further server, up to AT_ONCE in all.

    Args:
        limits: of a call's time, and of memory, processes and files.
        scratch_root: existing folder on a node-local disk; it works in a folder of its own in there.
    """

    def __init__(self, sandbox: Sandbox, limits: schema.Environment, scratch_root: Path):
        self._sandbox, self._limits, self._root = sandbox, limits, scratch_root
        self._folder = ExitStack()
        self._idle: list[Server] = []
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._started = 0

    async def __aenter__(self) -> "Scorer":
        self._root = self._folder.enter_context(own_folder(self._root, "scoring"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._idle:
            await _end(server)
        self._folder.close()

    def folder(self) -> Path:
        """A new folder for the files of an episode, to be scored as `Program.folder`."""
        self._started += 1
        folder = self._root / f"episode-{self._started}"
        folder.mkdir()
        return folder

    async def run(self, program: Program | Verification) -> Worth:
        """The program's worth. It is 0 where the program fails, hangs, exceeds a limit or gives none.

        Raises:
            Undecided: that happened, and the program has to score.
            InfrastructureError: the program cannot be started.
        """
        if isinstance(program, Verification):
            try:
                return (await self.verify(program)).worth
            except InfrastructureError as failure:  # of this image; those of other tasks may start
                raise Undecided(str(failure)) from None
        seconds, key = program.seconds or self._limits.call_seconds, secrets.token_bytes(KEY_BYTES)
        try:
            request = framed({"seconds": seconds, "key": key.hex(), "request": program.request})
        except (TypeError, ValueError) as error:  # of a task's metadata
            raise Undecided(f"{_name(program)} was not asked: its request is no JSON ({error})") from None
        async with self._turns:
            server = await self._taken(program)
            limits, is_sound = self._limits, False
            try:
                if program.folder:
                    program.folder.rename(server.scratch / "files")
                    size = await asyncio.to_thread(watchdog.size, server.scratch)
                    limits = replace(limits, scratch_mb=limits.scratch_mb + math.ceil(size / (1 << 20)))
                reply, reason = await self._asked(server, request, key, seconds, limits)
                is_sound = bool(reply)
            finally:
                await self._give_back(server, is_sound)
        try:
            return _read(reply, program, reason)
        except Undecided:
            if program.has_to_score:
                raise
            return Worth(0.0)

    async def _give_back(self, server: Server, is_sound: bool) -> None:
        """Offer a sound server to the next answer, once nothing is left to it; end another one."""
        is_idle = False
        try:
            is_idle = is_sound and await asyncio.to_thread(empty, server.scratch)
        finally:
            if is_idle:
                self._idle.append(server)
            else:  # the answer's code has harmed it, or nobody waits for its reply
                await _end(server)
                await asyncio.to_thread(empty, server.scratch)

    async def verify(self, asked: Verification) -> Verdict:
        """The outcome of a test in a task's container, as `verify`."""
        async with self._turns:
            return await verify(asked, self._limits)

    async def solve(self, container: Container, folder: Path, seconds: float) -> str:
        """Run the solution of a task's container in a new `folder`, as `solve` in `verify.py`."""
        async with self._turns:
            return await solve(container, folder, self._limits, seconds)

    async def _asked(
        self, server: Server, request: bytes, key: bytes, seconds: float, limits: schema.Environment
    ) -> tuple[bytes, str]:
        """The server's reply, and why there is none."""
        reply = asyncio.create_task(_ask(server.process, request, key))
        watch = asyncio.create_task(_excess(server, limits))
        try:
            limit = seconds + GRACE_SECONDS
            await asyncio.wait({reply, watch}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if reply.done() and not reply.exception():
                return reply.result(), f"it did not return within {seconds:g} s, or ended its process"
            if reply.done() and isinstance(reply.exception(), _Forged):
                return b"", "another process wrote into its reply"
            return b"", watch.result() if watch.done() else "it ended its process"
        finally:
            reply.cancel()
            watch.cancel()

    async def _taken(self, program: Program) -> Server:
        """A server of the program that is idle, or a new one. Idle servers of other programs make room for it."""
        key = (program.python, program.file, program.arguments)
        found = next((server for server in self._idle if server.key == key), None)
        if found:
            self._idle.remove(found)
            return found
        if len(self._idle) >= AT_ONCE:
            await _end(self._idle.pop(0))
        return await self._start(key, program)

    async def _start(self, key: Key, program: Program) -> Server:
        file = program.file
        self._started += 1
        scratch = self._root / f"{file.stem}-{self._started}"
        scratch.mkdir()
        packages, env = await _packages(program.python)
        argv = [program.python or self._sandbox.python, "-P", str(SERVER), str(file), *program.arguments]
        seen = [SERVER, file, *program.reads, *packages]
        launch = self._sandbox.launch(argv, Contents(scratch, self._limits, seen, env))
        said = self._root / f"{scratch.name}.stderr"
        with open(said, "wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *launch.argv,
                env=launch.env,
                cwd=launch.cwd,
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        server = Server(key, process, scratch)
        try:
            assert process.stdout
            await asyncio.wait_for(_message(process), START_SECONDS)
        except BaseException as error:
            await _end(server)
            if not isinstance(error, (TimeoutError, asyncio.IncompleteReadError)):
                raise
            last = (said.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            name = Path(program.arguments[0]).name if program.arguments else file.name
            raise InfrastructureError(f"{name} does not score in {self._sandbox.name}: {last[-300:]}") from None
        return server


async def _packages(python: str) -> tuple[list[Path], dict[str, str]]:
    """The folders that a scoring program sees, and its variables."""
    if not python:
        packages = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        return packages, {
            "PYTHONPATH": os.pathsep.join(map(str, packages))
        }  # an image's own Python has not what scores
    program = "import sys; print(sys.prefix); print(sys.base_prefix)"
    try:
        asking = await asyncio.create_subprocess_exec(python, "-c", program, stdout=PIPE)
    except OSError as error:
        raise InfrastructureError(
            f"tasks.python={python} does not start on node {os.uname().nodename} ({error.strerror}); put it where all "
            "nodes see it"
        ) from None
    said, _ = await asking.communicate()
    folders = {Path(line) for line in said.decode().splitlines()}
    return sorted(folder for folder in folders if folder != Path("/usr")), {"PYTHONPATH": "", "AWORLD_LIBRARIES": ""}


def _name(program: Program) -> str:
    return f"the reward {':'.join(program.arguments)}" if program.arguments else program.file.name


def _read(reply: bytes, program: Program, reason: str) -> Worth:
    """The worth in a reply.

    Args:
        reason: why a reply is empty.

    Raises:
        Undecided: there is none.
    """
    name = _name(program)
    try:
        said: dict[str, Any] = json.loads(reply or b"{}")
    except (ValueError, RecursionError):
        said = {}
    if "error" in said:
        where = f" ({said['line']})" if said.get("line") else ""
        raise Undecided(f"{name} raised {str(said['error'])[:LONGEST_ERROR]}{where}")
    if "worth" not in said:
        raise Undecided(f"{name} gave nothing: {reason}")
    return worth_of(said["worth"], name)


async def _excess(server: Server, limits: schema.Environment) -> str:
    """Wait until a server exceeds a limit of an episode; returns the limit in words."""
    while True:
        await asyncio.sleep(watchdog.SECONDS)
        if reason := await asyncio.to_thread(watchdog.excess, [server.process.pid], server.scratch, limits):
            return reason


async def _end(server: Server) -> None:
    process = server.process
    if process.returncode is None:
        kill(descendants(process.pid))
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    await process.wait()


class _Forged(Exception):  # noqa: N818
    """A reply that is not the server's."""


async def _ask(process: Process, request: bytes, key: bytes) -> bytes:
    """The reply, which has to begin with the key of the request.

    Raises:
        _Forged: it does not.
    """
    assert process.stdin and process.stdout
    process.stdin.write(request)
    await process.stdin.drain()
    if await process.stdout.readexactly(len(key)) != key:
        raise _Forged
    return await _message(process)


async def _message(process: Process) -> bytes:
    """The content of the next message."""
    assert process.stdout
    size = int.from_bytes(await process.stdout.readexactly(HEAD), "big")
    return await process.stdout.readexactly(min(size, LONGEST_REPLY))
