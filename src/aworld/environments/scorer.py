"""Scoring programs run in a sandbox. The worker itself never executes or parses what a policy wrote."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import ExitStack, suppress
from pathlib import Path

from aworld import config as schema
from aworld.environments import watchdog
from aworld.environments.reaper import descendants, kill
from aworld.environments.sandbox import Contents, Sandbox
from aworld.environments.score_server import REPLY
from aworld.environments.scratch import empty
from aworld.errors import InfrastructureError
from aworld.nodelocal import own_folder
from aworld.tasks.task import Program

SERVER = Path(__file__).with_name("score_server.py")
START_SECONDS = 600.0  # to import a library from a slow file system
GRACE_SECONDS = 5.0  # beyond a call's limit, which the server itself keeps


class Scorer:
    """Runs programs in a sandbox, each in a server that starts when it is first needed. An async context manager.

    Args:
        limits: of a call's time, and of memory, processes and files.
        scratch_root: existing folder on a node-local disk; it works in a folder of its own in there.
    """

    def __init__(self, sandbox: Sandbox, limits: schema.Environment, scratch_root: Path):
        self._sandbox, self._limits, self._root = sandbox, limits, scratch_root
        self._folder = ExitStack()
        self._servers: dict[Path, Process] = {}
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "Scorer":
        self._root = self._folder.enter_context(own_folder(self._root, "scoring"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for file in list(self._servers):
            await self._end(file)
        self._folder.close()

    async def run(self, program: Program) -> float:
        """The program's score, 0 to 1; 0 where it fails, hangs, exceeds a limit or gives no such number.

        Raises:
            InfrastructureError: the program cannot be started.
        """
        async with self._turn:
            server = await self._started(program.file)
            reply = asyncio.create_task(_ask(server, json.dumps(program.request).encode()))
            watch = asyncio.create_task(self._excess(server))
            try:
                limit = self._limits.call_seconds + GRACE_SECONDS
                await asyncio.wait({reply, watch}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                answered = reply.done() and not reply.exception()
                reward = REPLY.unpack(reply.result())[0] if answered else 0.0
            except BaseException:
                answered = False
                raise
            finally:
                reply.cancel()
                watch.cancel()
                if not answered:  # the answer's code has harmed it, or nobody waits for its reply
                    await self._end(program.file)
                await asyncio.to_thread(empty, self._root / program.file.stem)  # nothing is left to the next answer
            return reward if 0.0 <= reward <= 1.0 else 0.0

    async def _started(self, file: Path) -> Process:
        if file in self._servers:
            return self._servers[file]
        scratch = self._root / file.stem
        scratch.mkdir(exist_ok=True)
        packages = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        env = {"PYTHONPATH": os.pathsep.join(map(str, packages))}  # an image's own Python has not what scores
        argv = [self._sandbox.python, "-P", str(SERVER), str(file), f"{self._limits.call_seconds:g}"]
        launch = self._sandbox.launch(argv, Contents(scratch, self._limits, [SERVER, file, *packages], env))
        said = self._root / f"{file.stem}.stderr"
        with open(said, "wb") as stderr:
            server = await asyncio.create_subprocess_exec(
                *launch.argv,
                env=launch.env,
                cwd=launch.cwd,
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._servers[file] = server
        try:
            assert server.stdout
            await asyncio.wait_for(server.stdout.readexactly(REPLY.size), START_SECONDS)
        except BaseException as error:
            await self._end(file)
            if not isinstance(error, (TimeoutError, asyncio.IncompleteReadError)):
                raise
            last = (said.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise InfrastructureError(f"{file.name} does not score in {self._sandbox.name}: {last[-300:]}") from None
        return server

    async def _excess(self, server: Process) -> str:
        """Wait until a server exceeds a limit of an episode; returns the limit in words."""
        while True:
            await asyncio.sleep(watchdog.SECONDS)
            if reason := await asyncio.to_thread(watchdog.excess, [server.pid], self._root, self._limits):
                return reason

    async def _end(self, file: Path) -> None:
        server = self._servers.pop(file)
        if server.returncode is None:
            kill(descendants(server.pid))
            with suppress(ProcessLookupError):
                server.send_signal(signal.SIGTERM)
        await server.wait()


async def _ask(server: Process, request: bytes) -> bytes:
    assert server.stdin and server.stdout
    server.stdin.write(len(request).to_bytes(8, "big") + request)
    await server.stdin.drain()
    return await server.stdout.readexactly(REPLY.size)
