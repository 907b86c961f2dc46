"""An MCP server that already runs somewhere else, with the interface of `ServerProcess`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from mcp.client.streamable_http import streamable_http_client

from aworld.environments.process import FromServer, ToServer
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
    async def transport(self) -> AsyncIterator[tuple[FromServer, ToServer]]:
        headers = {"Authorization": f"Bearer {self._remote.key}"} if self._remote.key else {}
        timeout = httpx2.Timeout(30.0, read=None)  # calls have their own limits
        by_proxy = not is_near(httpx2.URL(self._remote.url).host)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=by_proxy) as client,
            streamable_http_client(self._remote.url, http_client=client) as streams,
        ):
            yield streams
