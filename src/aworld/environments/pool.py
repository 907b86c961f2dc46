"""Warm environments: a start costs half a second of CPU, so it happens before an episode needs it."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Environment, Observation
from aworld.environments import watchdog
from aworld.environments.sandbox import Contents, Launch, Sandbox
from aworld.environments.scratch import empty, folder_of_a_pool, keep, remove, stage
from aworld.environments.toolbox import McpToolbox
from aworld.environments.web import WebTools, tools_of
from aworld.environments.webcache import WebCache
from aworld.errors import InfrastructureError, InputError

OWN_LIMIT = 0.8  # of what a call may take: tools that run other programs end them by then themselves


@dataclass(eq=False)
class Slot:
    """A warm server, its scratch, and how to start it again: an Environment."""

    launch: Launch
    config: schema.Environment
    scratch: Path
    toolbox: McpToolbox
    web: WebTools | None = None  # of the episode that is played here
    worn: bool = False  # a server broke in it

    def __post_init__(self) -> None:
        self.tools = self.toolbox.tools

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool. After a call that broke the server, the next one finds a new server on the same scratch."""
        if self.web and name in self.web.names:
            return await self._fitted(await self.web.call(name, arguments))
        if self.toolbox.broken:
            await self.toolbox.close()
            self.toolbox = await McpToolbox.start(self.launch, self.config)
        observation = await self.toolbox.call(name, arguments)
        self.worn = self.worn or bool(self.toolbox.broken)
        return await self._fitted(observation)

    async def _fitted(self, observation: Observation) -> Observation:
        """With no more text than an agent is to read at once; the whole of it is kept in the scratch."""
        limit = self.config.result_chars
        if len(observation.text) <= limit:
            return observation
        whole = await asyncio.to_thread(keep, observation.text, self.scratch)
        note = f"[cut: {limit} of {len(observation.text)} characters{f'; the whole is in {whole}' if whole else ''}]"
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
        if config.reuse not in ("never", "reset"):
            raise InputError(f"environment.reuse={config.reuse}: no such policy; valid: never, reset")
        corpus = Path(config.corpus) if config.corpus else corpus
        if "search" in config.servers and (corpus is None or not corpus.is_file()):
            why = f"{corpus} is not there" if corpus else "the tasks bring no corpus"
            raise InputError(
                f"environment.servers has search, but {why}; make an index with aworld corpus and set "
                "environment.corpus, or leave search out"
            )
        self._config = config
        self._sandbox = sandbox
        self._cache = None
        if config.web and config.web_cache:
            owner = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._cache = WebCache(Path(config.web_cache).resolve(), config.web_mode, owner)
        self._web_tools: list[dict[str, Any]] = []
        self._corpus = corpus.resolve() if corpus else None
        self._root = scratch_root
        self._folder = ExitStack()
        self._warm: asyncio.Queue[Slot | Exception] = asyncio.Queue()
        self._live: set[Slot] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._in_use = asyncio.Semaphore(config.slots)
        self._starting = asyncio.Semaphore(os.cpu_count() or 1)  # more at once only makes each slower

    async def __aenter__(self) -> "EnvironmentPool":
        self._root = await asyncio.to_thread(self._folder.enter_context, folder_of_a_pool(self._root))
        if self._config.web:
            self._web_tools = await tools_of(self._config, self._root)
        self._watching = asyncio.create_task(self._watch())
        for _ in range(self._config.slots):
            self._in_background(self._add())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._watching, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(slot.toolbox.close() for slot in self._live))
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
                await asyncio.to_thread(stage, files, slot.scratch)
                if self._config.web:
                    slot.web = WebTools(self._config, slot.scratch, self._web_tools, self._cache)
                    slot.tools = slot.toolbox.tools + slot.web.tools
                yield slot
            finally:
                if slot.web:
                    await slot.web.close()
                    slot.web = None
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
                if not slot.toolbox.broken:
                    reason = await asyncio.to_thread(watchdog.excess, slot.toolbox.pid, slot.scratch, self._config)
                    if reason:
                        slot.toolbox.stop(reason)
                if slot.web:
                    await asyncio.to_thread(slot.web.watch)

    async def _add(self) -> None:
        """Start a slot; its failure is for the episode that would have had it."""
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
        argv = [self._sandbox.python, "-P", "-m", "aworld.environments.servers", *self._config.servers]
        # the code's own limit comes first, so that code that runs too long does not cost its server
        limits = {"call": self._config.call_seconds} | self._config.tool_seconds
        env = {f"AWORLD_{tool.upper()}_SECONDS": f"{OWN_LIMIT * seconds:g}" for tool, seconds in limits.items()}
        if self._corpus:
            env["AWORLD_CORPUS"] = str(self._corpus)
        seen = [self._corpus] if self._corpus else []
        if engine := shutil.which(os.environ.get("AWORLD_STOCKFISH", "")):
            seen.append(Path(engine).resolve())
            env["AWORLD_STOCKFISH"] = str(seen[-1])
        launch = self._sandbox.launch(argv, Contents(scratch, self._config, seen, env))
        return Slot(launch, self._config, scratch, await McpToolbox.start(launch, self._config))

    async def _recycle(self, slot: Slot) -> None:
        emptied = False
        if not slot.worn and not slot.toolbox.broken:
            emptied = await asyncio.to_thread(empty, slot.scratch)
        if emptied:
            self._warm.put_nowait(slot)
        else:
            await self._discard(slot)
            await self._add()

    async def _discard(self, slot: Slot) -> None:
        await slot.toolbox.close()
        self._live.discard(slot)
        await asyncio.to_thread(remove, slot.scratch)
