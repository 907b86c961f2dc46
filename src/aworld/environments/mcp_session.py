"""The client's side of the Model Context Protocol, as far as calls to tools need it.

Every worker starts with it, and the protocol's official SDK takes a second of CPU to import.
https://modelcontextprotocol.io/specification/2025-11-25
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Message = dict[str, Any]
VERSION = "2025-11-25"
NO_METHOD = -32601  # JSON-RPC's code


class ServerError(Exception):
    """A server answers a request by an error, or not at all."""


class Session(Protocol):
    """Requests to one server. The replies are as the protocol has them. Each raises ServerError."""

    async def list_tools(self, cursor: str | None) -> Message: ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Message: ...


class LineSession:
    """A Session of JSON-RPC messages, one a line.

    Args:
        write: sends a line.
    """

    def __init__(self, write: Callable[[bytes], None]):
        self._write = write
        self._waiting: dict[str, asyncio.Future[Message]] = {}  # by the id of the request, which some give back as text
        self._number = 0
        self._gone = ""

    async def begin(self) -> None:
        """Greet the server. Raises ServerError."""
        client = {"name": "aworld", "version": "1"}
        await self._request("initialize", protocolVersion=VERSION, capabilities={}, clientInfo=client)
        self._send({"method": "notifications/initialized"})

    async def list_tools(self, cursor: str | None) -> Message:
        return await self._request("tools/list", **({"cursor": cursor} if cursor else {}))

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Message:
        return await self._request("tools/call", name=name, arguments=dict(arguments))

    def receive(self, message: Message) -> None:
        """Take a message of the server's. Replies that nobody waits for, and notifications, are dropped."""
        if "method" in message:
            if "id" in message:
                self._answer(message)
        elif (reply := self._waiting.get(str(message.get("id")))) and not reply.done():
            reply.set_result(message)

    def end(self, reason: str) -> None:
        """The server is gone: no request gets a reply any more."""
        self._gone = reason
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(ServerError(reason))
        self._waiting.clear()

    async def _request(self, method: str, **parameters: Any) -> Message:
        if self._gone:
            raise ServerError(self._gone)
        self._number += 1
        number, reply = self._number, asyncio.get_running_loop().create_future()
        self._waiting[str(number)] = reply
        try:
            self._send({"id": number, "method": method, "params": parameters})
            message: Message = await reply
        finally:
            self._waiting.pop(str(number), None)
        if "error" in message:
            error = message["error"]
            raise ServerError(str(error.get("message", error) if isinstance(error, dict) else error))
        if not isinstance(message["result"], dict):
            raise ServerError(f"its result is a {type(message['result']).__name__} and no object")
        return message["result"]

    def _answer(self, request: Message) -> None:
        """A server may ask whether we are there; we offer it nothing else."""
        if request["method"] == "ping":
            self._send({"id": request["id"], "result": {}})
        else:
            error = {"code": NO_METHOD, "message": f"no method {request['method']!r}"}
            self._send({"id": request["id"], "error": error})

    def _send(self, message: Message) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False)
        if "NaN" in text or "Infinity" in text:  # Python writes them, and JSON has none
            text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
        self._write(text.encode() + b"\n")


def message_of(line: bytes) -> Message | None:
    """The message that a line holds; None: it holds none, as the greeting of a library."""
    try:
        text = line.decode("utf-8", "replace")
        message = json.loads(text)
        if r"\ud" in text.lower():  # JavaScript writes halves of surrogate pairs where it cuts a text
            message = json.loads(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    is_message = isinstance(message, dict) and message.get("jsonrpc") == "2.0"
    return message if is_message and message.keys() & {"method", "result", "error"} else None
