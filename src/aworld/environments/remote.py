"""An MCP server that already runs somewhere else, with the interface of `ServerProcess`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aworld.environments.mcp_session import Message, ServerError
from aworld.openai_client import is_near


@dataclass(frozen=True)
class Remote:
    """The address of the server and its key, if it needs one; the key is never shown."""

    url: str
    key: str = field(default="", repr=False)


class RemoteServer:
    """A session over streamable HTTP; `broken` is empty until something went wrong with it."""

    pid = 0  # no process of ours

    def __init__(self, remote: Remote):
        self.broken = ""
        self.stderr = remote.url  # where its own words would be found
        self._remote = remote

    def expect(self) -> None: ...

    def kill(self, reason: str) -> None:
        """No call is made to this session any more; the first reason stays."""
        self.broken = self.broken or reason

    async def close(self) -> None:
        self.kill("closed")

    @asynccontextmanager
    async def session(self) -> AsyncIterator["RemoteSession"]:
        import httpx2
        from mcp import Client  # its import takes a second, and few need it
        from mcp.client.streamable_http import streamable_http_client

        headers = {"Authorization": f"Bearer {self._remote.key}"} if self._remote.key else {}
        timeout = httpx2.Timeout(30.0, read=None)  # calls have their own limits
        by_proxy = not is_near(httpx2.URL(self._remote.url).host)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=by_proxy) as client,
            Client(streamable_http_client(self._remote.url, http_client=client), mode="legacy", cache=None) as session,
        ):
            yield RemoteSession(session)


class RemoteSession:
    """A Session by the protocol's official SDK, an `mcp.Client`."""

    def __init__(self, client: Any):
        self._client = client

    async def list_tools(self, cursor: str | None) -> Message:
        found: Message = (await self._client.list_tools(cursor=cursor)).model_dump(mode="json", by_alias=True)
        return found

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Message:
        from mcp import MCPError
        from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult
        from pydantic import ValidationError

        # not call_tool: that one refuses answers by the tool's own output schema, and stumbles over sloppy ones
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        try:
            result = await self._client.session.send_request(request, CallToolResult)
        except (MCPError, ValidationError, RuntimeError) as reason:
            raise ServerError(str(reason)) from None
        found: Message = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return found
