"""Warm environments: a start costs half a second of CPU, so it happens before an episode needs it."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Environment
from aworld.environments import container as containers
from aworld.environments import settings, watchdog
from aworld.environments.outside import Server, servers_of
from aworld.environments.sandbox import SCRATCH, Contents, Launch, Sandbox
from aworld.environments.scratch import empty, megabytes, move, stage
from aworld.environments.slot import Slot, SlotServer
from aworld.environments.toolbox import McpToolbox
from aworld.environments.web import WebTools, tools_of
from aworld.environments.webcache import WebCache
from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import own_folder, remove
from aworld.tasks.task import Container

OWN_LIMIT = 0.8  # of a call's time limit: tools end the programs they run by then, before the server would be killed


class NotStarted(InfrastructureError):  # noqa: N818
    """The container of a task did not start; those of other tasks may."""


class EnvironmentPool:
    """`config.slots` warm environments; an async context manager, in and out in the same task.

    `reuse: reset` keeps an episode's server for the next one: the scratch is emptied and each call to `python` has an
    interpreter of its own anyway, but code that attacks the server could leave it changed; `never` starts a new
    sandbox per episode. A server that broke is never used again. The container of a task's own image is never warm, and
    never used again.

    Args:
        corpus: JSONL file that the search server answers from.
        scratch_root: existing folder on a node-local disk; the pool works in a folder of its own in there.
    """

    def __init__(self, config: schema.Environment, sandbox: Sandbox, corpus: Path | None, scratch_root: Path):
        settings.check(config, corpus)
        corpus = Path(config.corpus) if config.corpus else corpus
        assert config.slots  # null stands for a number that follows from the shard
        self._config = config
        self._slots = config.slots
        self._sandbox = sandbox
        self._cache = None
        if (config.web or config.mcp) and config.web_cache:
            owner = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._cache = WebCache(Path(config.web_cache).resolve(), config.web_mode, owner)
        self._outside: list[tuple[Server, list[dict[str, Any]]]] = []
        self._corpus = corpus.resolve() if corpus else None
        self._root = scratch_root
        self._folder = ExitStack()
        self._warm: asyncio.Queue[Slot | Exception] = asyncio.Queue()
        self._filled = False
        self._live: set[Slot] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._in_use = asyncio.Semaphore(self._slots)
        self._starting = asyncio.Semaphore(os.cpu_count() or 1)  # more at once only makes each slower

    async def __aenter__(self) -> "EnvironmentPool":
        self._root = await asyncio.to_thread(self._folder.enter_context, own_folder(self._root, "environments"))
        try:
            for server in servers_of(self._config):
                tools = await tools_of(server, self._config, self._root, self._cache)
                self._outside.append((server, tools))
        except BaseException:
            self._folder.close()
            raise
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._watching, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.close() for slot in self._live))
        await asyncio.to_thread(self._folder.close)

    @asynccontextmanager
    async def episode(
        self, files: tuple[Path, ...] = (), left: Path | None = None, container: Container | None = None
    ) -> AsyncIterator[Environment]:
        """An environment with `files` in its scratch under their own names; waits for a free slot.

        Args:
            left: an empty folder on the same disk; at the end the files of the scratch are moved there, or those of the
                container.
            container: the tools run in it; None: in the sandbox.

        Raises:
            InfrastructureError: no environment could be started.
            NotStarted: that of the container could not.
            InputError: two files of one name, or a file that is not there.
        """
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            raise InputError(f"a task has two attachments of one name: {', '.join(sorted(names))}")
        async with self._in_use:
            if self._watching.done():
                self._watching.result()  # nobody is safe without it: its failure is the episode's
            slot = await (self._contained(container) if container else self._warm_slot())
            try:
                slot.attachments_mb = await asyncio.to_thread(megabytes, files)
                await asyncio.to_thread(stage, files, slot.scratch)
                if self._outside:
                    slot.web = WebTools(slot.limits, slot.scratch, self._outside, self._cache)
                    slot.tools = slot.sandbox_tools + slot.web.tools
                yield slot
            finally:
                await slot.end_program()
                if slot.web:
                    await slot.web.close()
                if container:
                    await slot.close()  # nothing may write there any more
                if left:
                    await asyncio.to_thread(move, slot.folder, left)
                if container or self._config.reuse == "never":
                    self._in_background(self._discard(slot))
                else:
                    self._in_background(self._recycle(slot))

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(watchdog.SECONDS)
            live = list(self._live)
            for slot, reason in zip(live, await asyncio.to_thread(_looks, live), strict=True):
                if reason:
                    slot.stop(reason)

    async def _warm_slot(self) -> Slot:
        """A slot that is warm. The first call starts all of them."""
        if not self._filled:
            self._filled = True
            for _ in range(self._slots):
                self._in_background(self._add())
        slot = await self._warm.get()
        if isinstance(slot, Exception):
            self._in_background(self._add())
            raise slot
        if self._config.reuse == "never":
            self._in_background(self._add())  # ahead of need: it starts while this episode runs
        return slot

    async def _contained(self, container: Container) -> Slot:
        """A slot whose servers run in the container of a task."""
        async with self._starting:
            try:
                slot = await self._start(container)
            except InfrastructureError as reason:
                raise NotStarted(f"{container.image}: {reason}") from None
        self._live.add(slot)
        return slot

    async def _add(self) -> None:
        """Start a slot. A failure is raised in the episode that would have used it."""
        async with self._starting:
            try:
                slot = await self._start()
            except Exception as error:
                self._warm.put_nowait(error)
            else:
                self._live.add(slot)
                self._warm.put_nowait(slot)

    async def _start(self, container: Container | None = None) -> Slot:
        try:
            folder = Path(tempfile.mkdtemp(prefix="slot-", dir=self._root))
            scratch = containers.prepare(folder) if container else folder
        except OSError as reason:
            raise InfrastructureError(
                f"no scratch for an environment: {reason}; free the disk, or use another"
            ) from None
        servers: list[SlotServer] = []
        try:
            for launch, only in self._inside(container, folder) if container else self._launches(scratch):
                servers.append(SlotServer(launch, only, await McpToolbox.start(launch, self._config, only)))
            _distinct([*(server.toolbox.tools for server in servers), *(tools for _, tools in self._outside)])
        except BaseException:
            await asyncio.gather(*(server.toolbox.close() for server in servers))
            await asyncio.to_thread(remove, folder)
            raise
        return Slot(servers, self._config, folder, scratch, self._sandbox, f"{SCRATCH}/" if container else "")

    def _inside(self, container: Container, folder: Path) -> Iterator[tuple[Launch, list[str] | None]]:
        """The server inside a task's container."""
        argv = containers.server_of(self._config)
        yield containers.launch(container, folder, argv, self._config, self._own_limits()), None

    def _own_limits(self) -> dict[str, str]:
        """Variables: the code's own limits come first, so that code that runs too long does not cost its server."""
        limits = {"call": self._config.call_seconds} | self._config.tool_seconds
        return {f"AWORLD_{tool.upper()}_SECONDS": f"{OWN_LIMIT * seconds:g}" for tool, seconds in limits.items()}

    def _launches(self, scratch: Path) -> Iterator[tuple[Launch, list[str] | None]]:
        """The servers inside the sandbox: ours as one process, the user's own."""
        argv = [self._sandbox.python, "-P", "-m", "aworld.tools", *self._config.servers]
        env = self._own_limits()
        if self._corpus:
            env["AWORLD_CORPUS"] = str(self._corpus)
        seen = [self._corpus] if self._corpus else []
        if engine := shutil.which(os.environ.get("AWORLD_STOCKFISH", "")):
            seen.append(Path(engine).resolve())
            env["AWORLD_STOCKFISH"] = str(seen[-1])
        yield self._sandbox.launch(argv, Contents(scratch, self._config, seen, env)), None
        for server in self._config.mcp.values():
            if server.command and not server.outside:
                files = [Path(word) for word in server.command if word.startswith("/") and word.endswith(".py")]
                own = Contents(scratch, self._config, [file for file in files if file.is_file()])
                yield self._sandbox.launch(server.command, own), server.tools

    async def _recycle(self, slot: Slot) -> None:
        emptied = False
        if not slot.had_broken_server and not slot.broken:
            emptied = await asyncio.to_thread(empty, slot.scratch)
        if emptied:
            self._warm.put_nowait(slot)
        else:
            await self._discard(slot)
            await self._add()

    async def _discard(self, slot: Slot) -> None:
        await slot.close()
        self._live.discard(slot)
        await asyncio.to_thread(remove, slot.folder)


def _looks(slots: list[Slot]) -> list[str]:
    """The limit that each slot exceeds, in words. In one thread: to begin one takes as long as a look."""
    found = [slot.excess() for slot in slots]
    for slot in slots:
        if web := slot.web:
            web.watch()
    return found


def _distinct(toolsets: list[list[dict[str, Any]]]) -> None:
    """Check that each tool has a name of its own.

    Raises:
        InputError: two servers have a tool of one name.
    """
    names = [tool["function"]["name"] for tools in toolsets for tool in tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"two servers of this environment have a tool {twice[0]!r}; leave one of them out, or with "
            "environment.mcp.NAME.tools only that tool"
        )
