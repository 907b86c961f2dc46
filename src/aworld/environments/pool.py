"""Environments that start while nobody waits for them: during the first turn of an episode's model."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aworld import config as schema
from aworld.environments import settings, watchdog
from aworld.environments.lent import LentSlot
from aworld.environments.memo import ToolsMemo
from aworld.environments.sandbox import Sandbox
from aworld.environments.scratch import empty, megabytes, move, stage
from aworld.environments.webcache import WebCache
from aworld.errors import InfrastructureError, InputError
from aworld.imports import beside_a_loop
from aworld.nodelocal import own_folder, remove
from aworld.tasks.task import Container

if TYPE_CHECKING:  # the client of tool servers takes a tenth of a second to import; see `_start`
    from aworld.environments.outside import Server
    from aworld.environments.slot import Slot
    from aworld.environments.starter import Starter


OTHER_TOOLS = "the sandbox has other tools than an earlier worker of the run has seen"


class NotStarted(InfrastructureError):  # noqa: N818
    """The container of a task did not start; those of other tasks may."""


class EnvironmentPool:
    """At most `config.slots` environments; an async context manager, in and out in the same task.

    An episode takes its slot with its first call. A slot starts for each episode that has none yet, unless one is free.
    `reuse: reset` keeps an episode's server for the next one: the scratch is emptied and each call to `python` has a
    process of its own anyway, but code that attacks the server could leave it changed; `never` starts a new
    sandbox per episode. A server that broke is never used again. The container of a task's own image is never warm, and
    never used again.

    Args:
        corpus: JSONL file that the search server answers from.
        scratch_root: existing folder on a node-local disk; the pool works in a folder of its own in there.
        memo: folder where pools note the tools that they have seen; None: nowhere.
    """

    def __init__(
        self,
        config: schema.Environment,
        sandbox: Sandbox,
        corpus: Path | None,
        scratch_root: Path,
        memo: Path | None = None,
    ):
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
        self._memo = ToolsMemo(memo, config) if memo else None
        self._warm: asyncio.Queue[Slot | Exception] = asyncio.Queue()
        self._coming = 0  # slots that start
        self._expecting = 0  # episodes that have taken no slot yet
        self._tools: list[dict[str, Any]] | None = None  # inside the sandbox, as a slot or an earlier pool had them
        self._has_seen_tools = False  # in a slot of its own
        self._learning_tools = asyncio.Lock()
        self._importing = asyncio.Lock()
        self._starter: Starter | None = None
        self._live: set[Slot] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._in_use = asyncio.Semaphore(self._slots)
        self._starting = asyncio.Semaphore(os.cpu_count() or 1)  # more at once only makes each slower

    async def __aenter__(self) -> "EnvironmentPool":
        self._root = await asyncio.to_thread(self._folder.enter_context, own_folder(self._root, "environments"))
        try:
            if self._memo:
                self._tools = await asyncio.to_thread(self._memo.read)
            if self._config.web or self._config.mcp:
                await self._ask_outside()
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

    async def _ask_outside(self) -> None:
        """Learn the tools outside the sandbox."""
        from aworld.environments.outside import servers_of
        from aworld.environments.web import tools_of

        for server in servers_of(self._config):
            tools = await tools_of(server, self._config, self._root, self._cache)
            self._outside.append((server, tools))

    @asynccontextmanager
    async def episode(
        self,
        files: tuple[Path, ...] = (),
        left: Path | None = None,
        container: Container | None = None,
        at_once: bool = False,
    ) -> AsyncIterator[LentSlot]:
        """An environment with `files` in its scratch under their own names; waits while `slots` others are in use.

        Args:
            left: an empty folder on the same disk; at the end the files of the scratch are moved there, or those of the
                container.
            container: the tools run in it; None: in the sandbox.
            at_once: wait for the slot now, not at the first call. So it is with a container.

        Raises:
            InfrastructureError: no environment could be started, or its tools are not those that an earlier pool noted.
                It is raised at the end, and by the first call.
            NotStarted: that of the container could not.
            InputError: two files of one name, or a file that is not there.
        """
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            raise InputError(f"a task has two attachments of one name: {', '.join(sorted(names))}")
        attached = await asyncio.to_thread(megabytes, files) if files else 0
        async with self._in_use:
            if self._watching.done():
                self._watching.result()  # nobody is safe without it: its failure is the episode's
            environment = self._lent(files, attached, container)
            try:
                if container or at_once:
                    environment.tools = (await environment.slot()).tools
                else:
                    environment.tools = await self._known_tools(environment)
                environment.known = self._tools
                environment.waited = 0.0  # from here on within the episode
                yield environment
                if not self._has_seen_tools and not container:
                    waited = environment.waited
                    await environment.slot()
                    environment.waited = waited  # the episode did not wait for this one
            finally:
                if slot := environment.taken:
                    await environment.settled()
                    await self._take_back(slot, left, container)
                elif not container:
                    self._expecting -= 1
                    self._drop_failures()
            if environment.failure:
                raise environment.failure
            if environment.known is not self._tools and not container:
                raise InfrastructureError(OTHER_TOOLS)

    def _lent(self, files: tuple[Path, ...], attached: int, container: Container | None) -> LentSlot:
        """The environment of an episode; without a container a slot starts for it, unless one is free."""

        async def fit(slot: "Slot") -> None:
            if environment.known is not None and environment.known is not self._tools:
                raise InfrastructureError(OTHER_TOOLS)
            slot.attachments_mb = attached
            if files:
                await asyncio.to_thread(stage, files, slot.scratch)
            if self._outside:
                from aworld.environments.web import WebTools

                slot.web = WebTools(slot.limits, slot.scratch, self._outside, self._cache)
                slot.tools = slot.sandbox_tools + slot.web.tools

        names = {tool["function"]["name"] for _, tools in self._outside for tool in tools}
        if container:
            environment = LentSlot([], names, partial(self._contained, container), fit)
        else:
            self._expecting += 1
            self._start_expected()
            environment = LentSlot([], names, self._warm_slot, fit)
        return environment

    async def _known_tools(self, environment: LentSlot) -> list[dict[str, Any]]:
        """The specs of the tools; the first episodes wait for one of them to have its slot."""
        async with self._learning_tools:
            if self._tools is None:
                await environment.slot()
        assert self._tools is not None
        return [*self._tools, *(tool for _, tools in self._outside for tool in tools)]

    async def _take_back(self, slot: "Slot", left: Path | None, container: Container | None) -> None:
        """End what an episode has left in its slot."""
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
            self._coming += 1
            self._in_background(self._recycle(slot))

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(watchdog.SECONDS)
            await asyncio.to_thread(_look, list(self._live), loop)

    def _start_expected(self) -> None:
        """Start a slot for each episode that expects one and that no warm slot is left for."""
        for _ in range(self._expecting - self._warm.qsize() - self._coming):
            self._coming += 1
            self._in_background(self._add())

    def _drop_failures(self) -> None:
        """Forget failed starts that no episode waits for: one that comes later has a start of its own."""
        started = [self._warm.get_nowait() for _ in range(self._warm.qsize())]
        for each in sorted(started, key=lambda each: isinstance(each, Exception)):
            if not isinstance(each, Exception) or self._warm.qsize() + self._coming < self._expecting:
                self._warm.put_nowait(each)

    async def _warm_slot(self) -> "Slot":
        """A slot that has started, for an episode that expects one."""
        slot = await self._warm.get()
        if isinstance(slot, Exception):
            raise slot
        self._expecting -= 1
        return slot

    async def _contained(self, container: Container) -> "Slot":
        """A slot whose servers run in the container of a task."""
        async with self._starting:
            try:
                return await self._start(container)
            except InfrastructureError as reason:
                raise NotStarted(f"{container.image}: {reason}") from None

    async def _add(self) -> None:
        """Start a slot. A failure is raised in the episode that would have used it."""
        async with self._starting:
            try:
                slot = await self._start()
            except Exception as error:
                self._warm.put_nowait(error)
            else:
                self._learn(slot.sandbox_tools)
                self._warm.put_nowait(slot)
            finally:
                self._coming -= 1

    async def _start(self, container: Container | None = None) -> "Slot":
        """Start a slot. What this imports is not imported before: the model's first turn need not wait for it."""
        async with self._importing:
            if self._starter is None:
                module = await asyncio.to_thread(beside_a_loop, "aworld.environments.starter")
                outside = [tools for _, tools in self._outside]
                self._starter = module.Starter(self._config, self._sandbox, self._corpus, self._root, outside)
        slot = await self._starter.start(container)
        self._live.add(slot)
        return slot

    def _learn(self, tools: list[dict[str, Any]]) -> None:
        """Take the tools of the first slot for those of all, and note them. Their order counts: the prompt shows it."""
        if not self._has_seen_tools and json.dumps(tools) != json.dumps(self._tools):
            self._tools = tools
            if self._memo:
                asyncio.get_running_loop().run_in_executor(None, self._memo.write, tools)  # nobody waits for it
        self._has_seen_tools = True

    async def _recycle(self, slot: "Slot") -> None:
        emptied = False
        try:
            if not slot.had_broken_server and not slot.broken:
                with suppress(OSError):  # the episode may have removed it
                    emptied = await asyncio.to_thread(empty, slot.scratch)
        finally:
            self._coming -= 1
        if emptied:
            self._warm.put_nowait(slot)
        else:
            self._start_expected()
            await self._discard(slot)

    async def _discard(self, slot: "Slot") -> None:
        await slot.close()
        self._live.discard(slot)
        await asyncio.to_thread(remove, slot.folder)


def _look(slots: "list[Slot]", loop: asyncio.AbstractEventLoop) -> None:
    """Stop each slot that exceeds a limit. In one thread for all: to begin one takes as long as a look."""
    for slot in slots:
        if reason := slot.excess():
            loop.call_soon_threadsafe(slot.stop, reason)
        if web := slot.web:
            web.watch()
