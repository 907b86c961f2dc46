"""A session with an MCP server, as far as a client of tools needs one: `process` over stdio, `remote` over HTTP.

The protocol's official SDK takes 0.8 s of CPU to import, and 5 ms of an episode, so only `remote` uses it.
https://modelcontextprotocol.io/specification/2025-11-25
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Remote:
    """The address of a server that runs somewhere else, and its key, if it needs one; the key is never shown."""

    url: str
    key: str = field(default="", repr=False)


class SessionError(Exception):
    """The server replied with an error, or not as the protocol has it, or it is broken. The text says how."""


class Session(Protocol):
    """A session with a server.

    Attributes:
        broken: why the server is of no more use; empty while it is.
        pid: of a process started here; 0 where there is none.
        stderr: the server's own last words, or where they would be found.
    """

    broken: str

    @property
    def pid(self) -> int: ...

    @property
    def stderr(self) -> str: ...

    async def open(self) -> None:
        """Greet the server. Raises SessionError."""

    async def ask(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a request. Raises SessionError."""
        ...

    def kill(self, reason: str) -> None:
        """Make no more requests; the first reason stays. A process ends now, and its requests under way fail."""

    async def close(self) -> None:
        """End it and wait until it is gone."""
