"""The client side of one MCP server: its tools, and calls that always return."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mcp import Client, MCPError
from mcp_types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import ValidationError

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.arguments import Checker, checker
from aworld.environments.process import ServerProcess
from aworld.environments.remote import Remote, RemoteServer
from aworld.environments.sandbox import Launch
from aworld.errors import InfrastructureError, InputError
from aworld.tools.common.result import valid_utf8

REASON_CHARS = 300


class McpToolbox:
    """The tools of one server, a contained process or a remote one. Make it with `start`; `broken` says when it is of
    no more use, and why.

    Attributes:
        tools: OpenAI-style specs, `{"type": "function", "function": {name, description, parameters}}`.
    """

    def __init__(self, process: ServerProcess | RemoteServer, config: schema.Environment):
        self.tools: list[dict[str, Any]] = []
        self._process = process
        self._config = config
        self._client: Client | None = None
        self._checkers: dict[str, Checker] = {}
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._owner = asyncio.create_task(self._own())

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
        if isinstance(where, Remote):
            toolbox = cls(RemoteServer(where), config)
        else:
            try:
                toolbox = cls(await ServerProcess.start(where), config)
            except OSError as reason:
                raise InfrastructureError(
                    f"the environment's command {where.argv[0]} did not start: {reason}"
                ) from None
        ready = asyncio.create_task(toolbox._ready.wait())
        try:
            await asyncio.wait({ready, toolbox._owner}, timeout=config.start_seconds, return_when="FIRST_COMPLETED")
            if not toolbox._ready.is_set():
                toolbox._process.kill(f"no answer within {config.start_seconds:g} s")
                await toolbox.close()
                said = " | ".join(toolbox._process.stderr.splitlines()[-5:]) or "nothing on its stderr"
                raise InfrastructureError(f"an environment did not start: {toolbox.broken}: {said}")
        except asyncio.CancelledError:
            await toolbox.close()
            raise
        finally:
            ready.cancel()
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
        return self._process.broken

    @property
    def pid(self) -> int:
        """Id of the process started here, which leads the server's session; 0 for a remote server."""
        return self._process.pid

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool; returns within its time limit. Whatever goes wrong is an Observation with is_error."""
        begin = time.perf_counter()
        observation = await self._call(name, arguments)
        return replace(observation, seconds=time.perf_counter() - begin)

    def stop(self, reason: str) -> None:
        """Kill the server at once; the call under way, and each later one, says why."""
        self._process.kill(reason)

    async def close(self) -> None:
        """End the server and everything it started."""
        await self._process.close()
        self._stop.set()
        _, late = await asyncio.wait({self._owner}, timeout=5.0)
        for task in late:
            task.cancel()

    async def _own(self) -> None:
        """The one task in which the session is opened and closed, as the SDK's cancel scopes demand."""
        try:
            async with Client(self._process.transport(), mode="legacy", cache=None) as client:
                await self._list_tools(client)
                self._client = client
                self._ready.set()
                await self._stop.wait()
        except* Exception as group:  # whatever a server does to its session ends this server, never the worker
            self._process.kill(f"its session failed: {_first(group)}")

    async def _list_tools(self, client: Client) -> None:
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                parameters = _without_titles(tool.input_schema)
                function = {"name": tool.name, "description": tool.description or "", "parameters": parameters}
                self.tools.append({"type": "function", "function": function})
                self._checkers[tool.name] = checker(parameters)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        if reason := self._refusal(name, arguments):
            return _error(reason)
        if self.broken or self._client is None:
            return _error(f"the tools are gone: {self.broken}")
        self._process.expect()
        limit, stalled = seconds_of(self._config, name), False
        try:
            async with asyncio.timeout(limit):
                # not call_tool: that one refuses answers by the tool's own output schema, and stumbles over sloppy ones
                request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
                result = await self._client.session.send_request(request, CallToolResult)
            files = tuple(block.name for block in result.content if isinstance(block, ResourceLink))
            return Observation(_text(result), result.is_error, 0.0, files)
        except TimeoutError:
            self._process.kill(f"no answer within {limit:g} s")
            stalled = True  # the policy's own code is stopped earlier, so the delay is the server's
        except asyncio.CancelledError:
            self._process.kill("a call was given up")
            raise
        except (MCPError, ValidationError, RuntimeError) as reason:
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


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


def _text(result: CallToolResult) -> str:
    shown = [_shown(block) for block in result.content if not isinstance(block, ResourceLink)]
    if result.structured_content is not None and not any(isinstance(block, TextContent) for block in result.content):
        shown.append(json.dumps(result.structured_content, ensure_ascii=False))
    if not shown:  # else the text names the files that it comes with
        shown = [f"[{block.name}: {block.uri}]" for block in result.content if isinstance(block, ResourceLink)]
    return valid_utf8("\n".join(shown))


def _shown(block: ContentBlock) -> str:
    """The block's text; for an image or a sound its kind in brackets."""
    if isinstance(block, TextContent):
        return block.text
    if not isinstance(block, EmbeddedResource):
        return f"[{block.type}, {block.mime_type}]"
    held = block.resource
    return held.text if isinstance(held, TextResourceContents) else f"[{held.uri}, {held.mime_type or 'not text'}]"


def _without_titles(node: Any) -> Any:
    """A JSON schema without the titles that generators add: each would cost tokens in every prompt."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    # a title that is no string is the schema of a property of that name, not noise
    return {key: _without_titles(value) for key, value in node.items() if not (key == "title" and type(value) is str)}
