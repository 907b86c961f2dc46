"""Warm environments: a start costs half a second of CPU, so it happens before an episode needs it."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Environment, Observation
from aworld.environments import settings, watchdog
from aworld.environments.outside import Server, servers_of
from aworld.environments.sandbox import Contents, Launch, Sandbox
from aworld.environments.scratch import empty, keep, megabytes, stage
from aworld.environments.toolbox import McpToolbox
from aworld.environments.web import WebTools, tools_of
from aworld.environments.webcache import WebCache
from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import own_folder, remove

OWN_LIMIT = 0.8  # of a call's time limit: tools end the programs they run by then, before the server would be killed


@dataclass
class SlotServer:
    """A server of a slot, and how to start it again."""

    launch: Launch
    only: list[str] | None
    toolbox: McpToolbox


@dataclass(eq=False)
class Slot:
    """Warm servers and their scratch: an Environment."""

    servers: list[SlotServer]
    config: schema.Environment
    scratch: Path
    web: WebTools | None = None  # of the episode that is played here
    had_broken_server: bool = False
    attachments_mb: int = 0  # of the episode that is played here: no file of its own making

    def __post_init__(self) -> None:
        self.tools = self.sandbox_tools = [tool for server in self.servers for tool in server.toolbox.tools]

    @property
    def broken(self) -> bool:
        return any(server.toolbox.broken for server in self.servers)

    @property
    def independent(self) -> Collection[str]:
        return self.web.names if self.web else ()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool. After a call that broke a server, the next one finds a new server on the same scratch."""
        if self.web and name in self.web.names:
            return await self._fitted(await self.web.call(name, arguments))
        has = (server for server in self.servers if name in server.toolbox.names)
        server = next(has, self.servers[0])
        if server.toolbox.broken:
            await server.toolbox.close()
            server.toolbox = await McpToolbox.start(server.launch, self.config, server.only)
        observation = await server.toolbox.call(name, arguments)
        self.had_broken_server = self.had_broken_server or bool(server.toolbox.broken)
        return await self._fitted(observation)

    def excess(self) -> str:
        """The limit that its servers together exceed, in words; empty where there is none."""
        alive = [server.toolbox.pid for server in self.servers if not server.toolbox.broken]
        return watchdog.excess(alive, self.scratch, self.limits) if alive else ""

    @property
    def limits(self) -> schema.Environment:
        """The episode's limits. `scratch_mb` is for the files it makes, so attachments are added."""
        return replace(self.config, scratch_mb=self.config.scratch_mb + self.attachments_mb)

    def stop(self, reason: str) -> None:
        for server in self.servers:
            server.toolbox.stop(reason)

    async def close(self) -> None:
        await asyncio.gather(*(server.toolbox.close() for server in self.servers))

    async def _fitted(self, observation: Observation) -> Observation:
        """The observation cut to `result_chars`; the whole text is kept in the scratch."""
        limit = self.config.result_chars
        if len(observation.text) <= limit:
            return observation
        whole = await asyncio.to_thread(keep, observation.text, self.scratch)
        kept = f"; the whole of this result is in {whole}" if whole else ""
        note = f"[cut: {limit} of {len(observation.text)} characters{kept}]"
        return replace(observation, text=f"{observation.text[:limit]}\n{note}")


class EnvironmentPool:
    """`config.slots` warm environments; an async context manager, in and out in the same task.

    `reuse: reset` keeps an episode's server for the next one: the scratch is emptied and each call to `python` has an
    interpreter of its own anyway, but code that attacks the server could leave it changed; `never` starts a new
    sandbox per episode. A server that broke is never used again.

    Args:
        corpus: JSONL file that the search server answers from.
        scratch_root: existing folder on a node-local disk; the pool works in a folder of its own in there.
    """

    def __init__(self, config: schema.Environment, sandbox: Sandbox, corpus: Path | None, scratch_root: Path):
        settings.check(config, corpus)
        corpus = Path(config.corpus) if config.corpus else corpus
        self._config = config
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
        self._live: set[Slot] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._in_use = asyncio.Semaphore(config.slots)
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
        for _ in range(self._config.slots):
            self._in_background(self._add())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._watching, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.close() for slot in self._live))
        await asyncio.to_thread(self._folder.close)

    @asynccontextmanager
    async def episode(self, files: tuple[Path, ...] = ()) -> AsyncIterator[Environment]:
        """An environment with `files` in its scratch under their own names; waits for a free slot.

        Raises:
            InfrastructureError: no environment could be started.
            InputError: two files of one name, or a file that is not there.
        """
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            raise InputError(f"a task has two attachments of one name: {', '.join(sorted(names))}")
        async with self._in_use:
            if self._watching.done():
                self._watching.result()  # nobody is safe without it: its failure is the episode's
            slot = await self._warm.get()
            if isinstance(slot, Exception):
                self._in_background(self._add())
                raise slot
            if self._config.reuse == "never":
                self._in_background(self._add())  # ahead of need: it starts while this episode runs
            try:
                slot.attachments_mb = await asyncio.to_thread(megabytes, files)
                await asyncio.to_thread(stage, files, slot.scratch)
                if self._outside:
                    slot.web = WebTools(slot.limits, slot.scratch, self._outside, self._cache)
                    slot.tools = slot.sandbox_tools + slot.web.tools
                yield slot
            finally:
                if slot.web:
                    await slot.web.close()
                if self._config.reuse == "never":
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
            for slot in list(self._live):
                if reason := await asyncio.to_thread(slot.excess):
                    slot.stop(reason)
                if slot.web:
                    await asyncio.to_thread(slot.web.watch)

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

    async def _start(self) -> Slot:
        try:
            scratch = Path(tempfile.mkdtemp(prefix="slot-", dir=self._root))
        except OSError as reason:
            raise InfrastructureError(
                f"no scratch for an environment: {reason}; free the disk, or use another"
            ) from None
        servers: list[SlotServer] = []
        try:
            for launch, only in self._launches(scratch):
                servers.append(SlotServer(launch, only, await McpToolbox.start(launch, self._config, only)))
            _distinct([*(server.toolbox.tools for server in servers), *(tools for _, tools in self._outside)])
        except BaseException:
            await asyncio.gather(*(server.toolbox.close() for server in servers))
            raise
        return Slot(servers, self._config, scratch)

    def _launches(self, scratch: Path) -> Iterator[tuple[Launch, list[str] | None]]:
        """The servers inside the sandbox: ours as one process, the user's own."""
        argv = [self._sandbox.python, "-P", "-m", "aworld.tools", *self._config.servers]
        # the code's own limit comes first, so that code that runs too long does not cost its server
        limits = {"call": self._config.call_seconds} | self._config.tool_seconds
        env = {f"AWORLD_{tool.upper()}_SECONDS": f"{OWN_LIMIT * seconds:g}" for tool, seconds in limits.items()}
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
        await asyncio.to_thread(remove, slot.scratch)


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
