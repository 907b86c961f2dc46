"""A session with an MCP server that runs somewhere else, by the protocol's SDK."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult, ListToolsResult
from pydantic import ValidationError

from aworld.environments.session import Remote, SessionError
from aworld.openai_client import is_near

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]
END_SECONDS = 5.0


class RemoteServer:
    """A session over streamable HTTP. See `Session`."""

    pid = 0  # no process of ours

    def __init__(self, remote: Remote):
        self.broken = ""
        self.stderr = remote.url  # where its own words would be found
        self._remote = remote
        self._client: Client | None = None
        self._is_open, self._stop = asyncio.Event(), asyncio.Event()
        self._owner = asyncio.create_task(self._own())

    async def open(self) -> None:
        opened = asyncio.create_task(self._is_open.wait())
        try:
            await asyncio.wait({opened, self._owner}, return_when="FIRST_COMPLETED")
        finally:
            opened.cancel()
        if self._client is None:
            raise SessionError(self.broken)

    async def ask(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        assert self._client
        result: ListToolsResult | CallToolResult
        try:
            if method == "tools/list":
                result = await self._client.list_tools(**parameters)
            else:
                # not call_tool: that one refuses answers by the tool's own output schema
                request = CallToolRequest(params=CallToolRequestParams(**parameters))
                result = await self._client.session.send_request(request, CallToolResult)
        except (MCPError, ValidationError, RuntimeError) as reason:
            raise SessionError(str(reason)) from None
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    def kill(self, reason: str) -> None:
        """No request is made in this session any more."""
        self.broken = self.broken or reason

    async def close(self) -> None:
        self.kill("closed")
        self._stop.set()
        _, late = await asyncio.wait({self._owner}, timeout=END_SECONDS)
        for task in late:
            task.cancel()

    async def _own(self) -> None:
        """The one task in which the session is opened and closed, as the SDK's cancel scopes demand."""
        try:
            async with Client(self._transport(), mode="legacy", cache=None) as client:
                self._client = client
                self._is_open.set()
                await self._stop.wait()
        except* Exception as group:  # whatever a server does to its session ends this server, never the worker
            self.kill(f"its session failed: {_first(group)}")

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Streams]:
        headers = {"Authorization": f"Bearer {self._remote.key}"} if self._remote.key else {}
        timeout = httpx2.Timeout(30.0, read=None)  # calls have their own limits
        by_proxy = not is_near(httpx2.URL(self._remote.url).host)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=by_proxy) as client,
            streamable_http_client(self._remote.url, http_client=client) as streams,
        ):
            yield streams


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
