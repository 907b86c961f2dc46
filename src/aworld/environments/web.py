"""The tools outside the sandbox of one episode, behind the cache: a run repeats exactly, and costs once."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.outside import Outside, Server
from aworld.environments.toolbox import McpToolbox
from aworld.environments.webcache import RECORD, STRICT, Answer, WebCache, key_of
from aworld.errors import InfrastructureError
from aworld.tools.common import opened
from aworld.tools.common.result import UNANSWERED, UNREACHABLE, write_new

FILE = "path"  # the argument that names a file of the episode: the answer depends on its content
NOT_KEPT = (UNREACHABLE, UNANSWERED)  # temporary errors begin so; they are not cached


class WebTools:
    """`servers` with their tools' specs, as `tools_of` gives them."""

    def __init__(
        self,
        config: schema.Environment,
        scratch: Path,
        servers: list[tuple[Server, list[dict[str, Any]]]],
        cache: WebCache | None,
    ):
        self.tools = [tool for _, tools in servers for tool in tools]
        functions = [tool["function"] for tool in self.tools]
        self.names = {function["name"] for function in functions}
        self._readers = {one["name"] for one in functions if FILE in (one["parameters"].get("properties") or {})}
        self._scratch, self._cache = scratch, cache
        home = f"w-{scratch.name[-8:]}"  # short: a browser's sockets lie in it
        self._servers = [
            Outside(server, config, scratch, scratch.with_name(f"{home}-{number}"), tools)
            for number, (server, tools) in enumerate(servers)
        ]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Answer from the cache, or ask, and keep the answer unless something went wrong on the way to it.

        Calls to different servers may run at the same time; those to one server wait for each other.
        """
        server = next(server for server in self._servers if name in server.names)
        async with server.in_turn:
            return await self._call(server, name, arguments)

    async def _call(self, server: Outside, name: str, arguments: Mapping[str, Any]) -> Observation:
        if self._cache is None:
            seen, _ = await self._ask(server, name, arguments)
            return seen
        try:
            content = await asyncio.to_thread(self._content, name, arguments)
        except opened.NoFileError as reason:
            return Observation(str(reason), True, 0.0)
        key = key_of(name, arguments, server.history if server.remembers(name) else (), content)
        async with self._cache.asking(key):
            known = await asyncio.to_thread(self._cache.get, key)
            if known is not None:
                server.remember(name, arguments, seen=False)
                return await asyncio.to_thread(self._replayed, known)
            if self._cache.mode == STRICT:
                return Observation(f"{name}: this call was not recorded, and there is no web here", True, 0.0)
            seen, whole = await self._ask(server, name, arguments)
            if self._cache.mode == RECORD and whole:
                return await asyncio.to_thread(self._keep, key, content, seen, name, arguments)
            return seen

    def watch(self) -> None:
        for server in self._servers:
            server.watch()

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    async def _ask(self, server: Outside, name: str, arguments: Mapping[str, Any]) -> tuple[Observation, bool]:
        """The server's answer, and whether it may be kept: a failure on the way is not."""
        seen = await server.call(name, arguments)
        unanswered = seen.is_error and seen.text.startswith(NOT_KEPT)
        seen = replace(seen, stalled=seen.stalled or unanswered)
        whole = not server.broken and not unanswered
        if whole:
            server.remember(name, arguments, seen=True)
        elif self._cache and server.remembers(name):
            await server.close()  # its state may differ from its history, which the next one replays
        return seen, whole

    def _keep(self, key: str, content: str, seen: Observation, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Keep an answer; another worker's counts where that one was first, so that all go on from the same."""
        assert self._cache
        if not self._still(content, name, arguments):
            return seen
        made = [file for file in seen.files if Path(file).name == file]  # a server may name anything
        digests = [(file, self._cache.put_file(self._scratch / file)) for file in made]
        kept = tuple((file, digest) for file, digest in digests if digest)
        counts = self._cache.put(key, Answer(seen.text, seen.is_error, kept), name, arguments)
        return seen if seen.files else Observation(counts.text, counts.is_error, seen.seconds)

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

    def _replayed(self, answer: Answer) -> Observation:
        """A kept answer, with its files where the server would have put them, and under a name that is free."""
        assert self._cache
        text = answer.text
        for name, digest in answer.files:
            try:
                free = write_new(self._scratch, name, self._cache.file(digest).read_bytes())
            except OSError as reason:
                return Observation(f"cannot write {name!r}: {reason.strerror}", True, 0.0)
            text = free.join(text.rsplit(name, 1))
        return Observation(text, answer.is_error, 0.0, tuple(name for name, _ in answer.files))


async def tools_of(
    server: Server, config: schema.Environment, scratch: Path, cache: WebCache | None
) -> list[dict[str, Any]]:
    """The specs of a server's tools, by starting it once; one of ours takes no network for that.

    Those of the user's own are kept as well, so that with `strict` nobody has to be there.

    Raises:
        InfrastructureError: it does not start, or with `strict` was not recorded.
        InputError: it lacks a tool that `only` names.
    """
    key = key_of("tools/list", {"server": server.name, "only": server.only})
    if cache and server.name and cache.mode == STRICT:
        known = await asyncio.to_thread(cache.get, key)
        if known is None:
            raise InfrastructureError(
                f"environment.mcp.{server.name} was not recorded in {cache.folder}; record it first"
            )
        return list(json.loads(known.text))
    toolbox = await McpToolbox.start(server.where(scratch, scratch), config, server.only)
    await toolbox.close()
    if cache and server.name and cache.mode == RECORD:
        kept = Answer(json.dumps(toolbox.tools), False)
        await asyncio.to_thread(cache.put, key, kept, "tools/list", {"server": server.name})
    return toolbox.tools
