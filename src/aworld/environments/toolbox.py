"""The client side of one MCP server: its tools, and calls that always return."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.arguments import Checker, checker
from aworld.environments.process import ServerProcess
from aworld.environments.sandbox import Launch
from aworld.environments.session import Remote, Session, SessionError
from aworld.errors import InfrastructureError, InputError
from aworld.tools.common.result import valid_utf8

REASON_CHARS = 300


class McpToolbox:
    """The tools of one server, a contained process or a remote one. Make it with `start`; `broken` says when it is of
    no more use, and why.

    Attributes:
        tools: OpenAI-style specs, `{"type": "function", "function": {name, description, parameters}}`.
    """

    def __init__(self, session: Session, config: schema.Environment):
        self.tools: list[dict[str, Any]] = []
        self._session = session
        self._config = config
        self._checkers: dict[str, Checker] = {}

    @classmethod
    async def start(
        cls, where: Launch | Remote, config: schema.Environment, only: list[str] | None = None
    ) -> "McpToolbox":
        """Start the server, or connect to it, and learn its tools.

        Args:
            only: names of the tools that are used; None: all.

        Raises:
            InfrastructureError: it did not come up within `start_seconds`; carries the end of its stderr.
            InputError: it has no tool of such a name.
        """
        toolbox = cls(await _session(where), config)
        try:
            await toolbox._open()
        except asyncio.CancelledError:
            await toolbox.close()
            raise
        if only is not None:
            names = [tool["function"]["name"] for tool in toolbox.tools]
            if lacking := [name for name in only if name not in names]:
                await toolbox.close()
                raise InputError(f"environment.mcp names the tool {lacking[0]!r}; its server has {', '.join(names)}")
            toolbox.tools = [tool for tool in toolbox.tools if tool["function"]["name"] in only]
            toolbox._checkers = {name: toolbox._checkers[name] for name in only}
        return toolbox

    @property
    def names(self) -> Iterable[str]:
        """Names of the tools."""
        return self._checkers

    @property
    def broken(self) -> str:
        """Why the server cannot be used any more; empty while it can."""
        return self._session.broken

    @property
    def pid(self) -> int:
        """Id of the process started here, which leads the server's session; 0 for a remote server."""
        return self._session.pid

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool; returns within its time limit. Whatever goes wrong is an Observation with is_error."""
        begin = time.perf_counter()
        observation = await self._call(name, arguments)
        return replace(observation, seconds=time.perf_counter() - begin)

    def stop(self, reason: str) -> None:
        """Kill the server at once; the call under way, and each later one, says why."""
        self._session.kill(reason)

    async def close(self) -> None:
        """End the server and everything it started."""
        await self._session.close()

    async def _open(self) -> None:
        """Open the session and learn the tools. Raises InfrastructureError."""
        try:
            async with asyncio.timeout(self._config.start_seconds):
                await self._session.open()
                await self._list_tools()
        except TimeoutError:
            self._session.kill(f"no answer within {self._config.start_seconds:g} s")
        except Exception as reason:  # whatever a server makes of its tools ends this server, never the worker
            self._session.kill(f"its session failed: {reason}")
        if self.broken:
            await self._session.close()
            said = " | ".join(self._session.stderr.splitlines()[-5:]) or "nothing on its stderr"
            raise InfrastructureError(f"an environment did not start: {self.broken}: {said}")

    async def _list_tools(self) -> None:
        cursor: dict[str, Any] = {}
        while True:
            page = json.loads(valid_utf8(json.dumps(await self._session.ask("tools/list", cursor), ensure_ascii=False)))
            for tool in _list_of_dicts(page, "tools"):
                name, parameters = tool.get("name"), tool.get("inputSchema")
                if not isinstance(name, str) or not isinstance(parameters, dict):
                    raise SessionError("it has a tool without a name or a schema")
                parameters, says = _without_titles(parameters), tool.get("description")
                function = {"name": name, "description": str(says or ""), "parameters": parameters}
                self.tools.append({"type": "function", "function": function})
                self._checkers[name] = checker(parameters)
            if not page.get("nextCursor"):
                return
            cursor = {"cursor": page["nextCursor"]}

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        if reason := self._refusal(name, arguments):
            return _error(reason)
        if self.broken:
            return _error(f"the tools are gone: {self.broken}")
        limit, stalled = seconds_of(self._config, name), False
        try:
            async with asyncio.timeout(limit):
                called = {"name": name, "arguments": dict(arguments)}
                return _observation(await self._session.ask("tools/call", called))
        except TimeoutError:
            self._session.kill(f"no answer within {limit:g} s")
            stalled = True  # the policy's own code is stopped earlier, so the delay is the server's
        except asyncio.CancelledError:
            self._session.kill("a call was given up")
            raise
        except (SessionError, RecursionError) as reason:
            if not self.broken:
                return _error(f"{name} failed: {str(reason)[:REASON_CHARS]}")
        gone = _error(f"{name} failed: the server was stopped: {self.broken[:REASON_CHARS]}")
        return replace(gone, stalled=stalled)

    def _refusal(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The reason to refuse this call, in a line the agent can act on; empty where it is made."""
        if name not in self._checkers:
            return f"no tool {name[:100]!r}; there are: {', '.join(self._checkers)}"
        if problem := self._checkers[name].problem(arguments):
            return f"wrong arguments for {name}: {problem[:REASON_CHARS]}"
        try:
            json.dumps(arguments, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # half a surrogate pair, or nested beyond reason
            return f"wrong arguments for {name}: not valid Unicode JSON"
        return ""


def seconds_of(config: schema.Environment, tool: str) -> float:
    """The time limit of one call to this tool; what is set for `browse` goes for `browse_click` as well."""
    return config.tool_seconds.get(tool, config.tool_seconds.get(tool.partition("_")[0], config.call_seconds))


def _error(text: str) -> Observation:
    return Observation(text, True, 0.0)


async def _session(where: Launch | Remote) -> Session:
    """A session that is not open yet. Raises InfrastructureError."""
    if isinstance(where, Remote):
        from aworld.environments.remote import RemoteServer

        return RemoteServer(where)
    try:
        return await ServerProcess.start(where)
    except OSError as reason:
        raise InfrastructureError(f"the environment's command {where.argv[0]} did not start: {reason}") from None


def _observation(result: dict[str, Any]) -> Observation:
    """What a call's result shows. Raises SessionError where it is not one."""
    blocks = _list_of_dicts(result, "content")
    links = [block for block in blocks if block.get("type") == "resource_link"]
    shown = [_shown(block) for block in blocks if block.get("type") != "resource_link"]
    structured = result.get("structuredContent")
    if structured is not None and not any(block.get("type") == "text" for block in blocks):
        shown.append(json.dumps(structured, ensure_ascii=False))
    if not shown:  # else the text names the files that it comes with
        shown = [f"[{link.get('name')}: {link.get('uri')}]" for link in links]
    files = tuple(valid_utf8(str(link.get("name"))) for link in links)
    return Observation(valid_utf8("\n".join(shown)), result.get("isError") is True, 0.0, files)


def _list_of_dicts(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Raises SessionError where there is none of this key."""
    found = result.get(key, [] if key == "content" else None)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SessionError(f"its result has no list of {key}")
    return found


def _shown(block: dict[str, Any]) -> str:
    """The block's text; for an image or a sound its kind in brackets."""
    match block:
        case {"type": "text", "text": str(content)}:
            return content
        case {"type": "resource", "resource": {"text": str(content)}}:
            return content
        case {"type": "resource", "resource": {"uri": uri, **more}}:
            return f"[{uri}, {more.get('mimeType') or 'not text'}]"
    return f"[{block.get('type')}, {block.get('mimeType')}]"


def _without_titles(node: Any) -> Any:
    """A JSON schema without the titles that generators add: each would cost tokens in every prompt."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    # a title that is no string is the schema of a property of that name, not noise
    return {key: _without_titles(value) for key, value in node.items() if not (key == "title" and type(value) is str)}
