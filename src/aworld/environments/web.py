"""The tools that reach the web: servers outside the sandbox, each episode's own, behind the cache.

They run as processes of this machine in the episode's folder, started at the first call that needs them. Nothing else
of an episode has the network.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments import watchdog
from aworld.environments.sandbox import Contents, Launch, SubprocessSandbox
from aworld.environments.scratch import remove
from aworld.environments.servers import opened
from aworld.environments.servers.result import UNANSWERED, UNREACHABLE
from aworld.environments.toolbox import McpToolbox, seconds_of
from aworld.environments.webcache import RECORD, STRICT, Answer, WebCache, key_of

PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")  # with their upper-case names, and AWORLD_…
MAPPED_MB = 1 << 26  # a browser maps terabytes that it never uses; what it does use is watched
PROCESSES = 4096  # and its threads count
STATEFUL = "browse"  # what the names of tools with a state begin with
FILE = "path"  # the argument that names a file of the episode: the answer depends on its content
NOT_KEPT = (UNREACHABLE, UNANSWERED)  # what errors begin with that another try may not meet
OWN_LIMIT = ("vision", "speech", "reasoning", "youtube")  # these end what takes too long themselves


def launch(config: schema.Environment, scratch: Path, home: Path) -> Launch:
    """The servers of `config.web`, with this process's own proxies and AWORLD_ settings; a browser writes to `home`."""
    sandbox = SubprocessSandbox()
    env = {key: value for key, value in os.environ.items() if key.startswith("AWORLD_") or key.lower() in PASSED_ON}
    env |= {f"AWORLD_{tool.upper()}_SECONDS": f"{0.8 * seconds_of(config, tool):g}" for tool in OWN_LIMIT}
    env |= {"HOME": str(home), "TMPDIR": str(home)}
    limits = replace(config, memory_mb=MAPPED_MB, processes=PROCESSES)
    argv = [sandbox.python, "-P", "-m", "aworld.environments.servers", *config.web]
    return sandbox.launch(argv, Contents(scratch, limits, env=env))


class WebTools:
    """The web tools of one episode."""

    def __init__(self, config: schema.Environment, scratch: Path, tools: list[dict[str, Any]], cache: WebCache | None):
        self.tools = tools
        self.names = {tool["function"]["name"] for tool in tools}
        functions = [tool["function"] for tool in tools]
        self._readers = {one["name"] for one in functions if FILE in one["parameters"].get("properties", {})}
        self._config, self._scratch, self._cache = config, scratch, cache
        self._home = scratch.with_name(f"w-{scratch.name[-8:]}")  # short: a browser's sockets lie in it
        self._toolbox: McpToolbox | None = None
        self._history: list[tuple[str, Mapping[str, Any]]] = []  # calls to tools with a state
        self._done = 0  # so many of them the server has seen

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Answer from the cache, or ask, and keep the answer unless something went wrong on the way to it."""
        before = list(self._history) if name.startswith(STATEFUL) else []
        if name.startswith(STATEFUL):
            self._history.append((name, arguments))
        if self._cache is None:
            return await self._ask(name, arguments)
        try:
            content = await asyncio.to_thread(self._content, name, arguments)
        except opened.NoFileError as reason:
            return Observation(str(reason), True, 0.0)
        key = key_of(name, arguments, before, content)
        known = await asyncio.to_thread(self._cache.get, key)
        if known is not None:
            await asyncio.to_thread(self._place, known)
            return Observation(known.text, known.is_error, 0.0)
        if self._cache.mode == STRICT:
            return Observation(f"{name}: this call was not recorded, and there is no web here", True, 0.0)
        seen = await self._ask(name, arguments)
        broke = self._toolbox is None or self._toolbox.broken or (seen.is_error and seen.text.startswith(NOT_KEPT))
        if self._cache.mode == RECORD and not broke and await asyncio.to_thread(self._still, content, name, arguments):
            digests = [(file, self._cache.put_file(self._scratch / file)) for file in seen.files]
            kept = tuple((file, digest) for file, digest in digests if digest)
            answer = Answer(seen.text, seen.is_error, kept)
            await asyncio.to_thread(self._cache.put, key, answer, name, arguments)
        return seen

    def watch(self) -> None:
        """Stop the servers where they use more memory than an episode may."""
        toolbox = self._toolbox
        if toolbox is not None and not toolbox.broken:
            reason = watchdog.excess(toolbox.pid, self._scratch, self._config)
            if reason:
                toolbox.stop(reason)

    async def close(self) -> None:
        if self._toolbox is not None:
            await self._toolbox.close()
            await asyncio.to_thread(remove, self._home)
        self._toolbox = None

    async def _ask(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        if self._toolbox is None or self._toolbox.broken:
            await self.close()
            self._home.mkdir(exist_ok=True)
            self._toolbox = await McpToolbox.start(launch(self._config, self._scratch, self._home), self._config)
            self._done = 0
        if name.startswith(STATEFUL):  # what the cache has answered the server has not seen
            for earlier in self._history[self._done : -1]:
                await self._toolbox.call(*earlier)
            self._done = len(self._history)
        return await self._toolbox.call(name, arguments)

    def _content(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The digest of the file that a call is about; "" where it is about none.

        Raises:
            NoFileError: there is no such file.
        """
        path = arguments.get(FILE)
        return opened.digest(path, self._scratch) if name in self._readers and isinstance(path, str) else ""

    def _still(self, content: str, name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether that file is as it was: code in the sandbox may have changed it before the server read it."""
        with suppress(opened.NoFileError):
            return self._content(name, arguments) == content
        return False

    def _place(self, answer: Answer) -> None:
        """Put the files of an answer where the server would have put them."""
        assert self._cache
        for name, digest in answer.files:
            target = self._scratch / Path(name).name
            with suppress(FileNotFoundError):
                target.unlink()
            with open(target, "xb") as copy:  # x: never through a link
                copy.write(self._cache.file(digest).read_bytes())


async def tools_of(config: schema.Environment, scratch: Path) -> list[dict[str, Any]]:
    """The specs of the web tools, by starting their servers once; that takes no network.

    Raises:
        InfrastructureError: they do not start.
    """
    toolbox = await McpToolbox.start(launch(config, scratch, scratch), config)
    await toolbox.close()
    return toolbox.tools
