"""A tool server: the Model Context Protocol over stdio, as far as a server of tools needs it.

Every episode may start one, and the protocol's official SDK takes 0.8 s of CPU to import. This takes a tenth of it.
https://modelcontextprotocol.io/specification/2025-11-25
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from aworld.tools.common.result import Result, error

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # alike in all that is used here; newest first
TYPES: dict[Any, dict[str, Any]] = {  # of a parameter
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    tuple[float, ...]: {"items": {"type": "number"}, "type": "array"},
}
LINE_BYTES = 64 << 20
# error codes of JSON-RPC
NO_JSON, NO_REQUEST, NO_METHOD, BAD_PARAMETERS, FAULT = -32700, -32600, -32601, -32602, -32603

Tool = Callable[..., Awaitable[Result]]
Number = int | str  # of a request: its id


class ProtocolError(Exception):
    """A request that is answered by a JSON-RPC error: its code and message."""


@dataclass(frozen=True)
class Offered:
    """A tool, and what clients are told of it."""

    call: Tool
    spec: dict[str, Any]


class ToolServer:
    """Tools that are async functions. The types and defaults of their parameters become the tools' JSON schemas."""

    def __init__(self) -> None:
        self._tools: dict[str, Offered] = {}
        self._calls: dict[str, asyncio.Task[None]] = {}  # under way, by the id of the request

    def add_tool(self, tool: Tool, description: str) -> None:
        """Offer a function as a tool of its name.

        Raises:
            KeyError: a parameter is of a type that TYPES does not have.
        """
        name = tool.__name__
        self._tools[name] = Offered(tool, {"name": name, "description": description, "inputSchema": _schema(tool)})

    def run(self) -> None:
        """Serve this process's stdin and stdout until stdin ends. What else is printed goes to stderr."""
        requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        asyncio.run(self._serve(requests, replies))

    async def _serve(self, requests: BinaryIO, replies: BinaryIO) -> None:
        lines = asyncio.StreamReader(limit=LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), requests)
        while line := await lines.readline():
            try:
                number, method, parameters = _request(line)
            except ProtocolError as failure:
                _send_error(replies, None, failure)
                continue
            if method == "notifications/cancelled":
                if call := self._calls.get(str(parameters.get("requestId"))):
                    call.cancel()
            elif number is not None:
                task = asyncio.create_task(self._reply(replies, number, method, parameters))
                self._calls[str(number)] = task
                task.add_done_callback(lambda _, key=str(number): self._calls.pop(key, None))  # type: ignore[misc]

    async def _reply(self, replies: BinaryIO, number: Number, method: str, parameters: dict[str, Any]) -> None:
        try:
            result = await self._answer(method, parameters)
        except ProtocolError as failure:
            _send_error(replies, number, failure)
        except Exception as failure:  # a request without a reply would be waited for
            traceback.print_exc(file=sys.stderr)
            _send_error(replies, number, ProtocolError(FAULT, f"{method} failed: {type(failure).__name__}"))
        else:
            _send(replies, number, result=result)

    async def _answer(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                wanted = parameters.get("protocolVersion")
                version = wanted if wanted in VERSIONS else VERSIONS[0]
                server = {"name": "aworld", "version": "1"}
                return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [tool.spec for tool in self._tools.values()]}
            case "tools/call":
                return _shown(await self._call(str(parameters.get("name")), parameters.get("arguments") or {}))
        raise ProtocolError(NO_METHOD, f"no method {method!r}")

    async def _call(self, name: str, arguments: dict[str, Any]) -> Result:
        if name not in self._tools:
            raise ProtocolError(BAD_PARAMETERS, f"no tool {name!r}; there are: {', '.join(self._tools)}")
        tool = self._tools[name].call
        try:
            given = _arguments(tool, arguments)
        except (TypeError, ValueError, OverflowError) as reason:
            return error(f"wrong arguments for {name}: {reason}")
        try:
            return await tool(**given)
        except Exception as reason:  # a fault of the tool must not cost the server
            traceback.print_exc(file=sys.stderr)
            return error(f"{name} failed: {type(reason).__name__}: {' '.join(str(reason).split())[:200]}")


def _schema(tool: Tool) -> dict[str, Any]:
    """The JSON schema of a tool's arguments."""
    properties, required = {}, []
    for name, parameter in inspect.signature(tool).parameters.items():
        has_default = parameter.default is not parameter.empty
        default = {"default": parameter.default} if has_default else {}
        properties[name] = default | TYPES[parameter.annotation]
        if not has_default:
            required.append(name)
    return {"properties": properties, **({"required": required} if required else {}), "type": "object"}


def _arguments(tool: Tool, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the function takes them: JSON knows no tuple, and 2.0 is an integer to its schemas.

    Arguments that the tool does not know are left out, as its schema does not forbid them.

    Raises:
        TypeError: one is missing, or of another type.
        ValueError: a number is not one of the parameter's type.
        OverflowError: a number is too large for it.
    """
    parameters = inspect.signature(tool).parameters
    bound = inspect.signature(tool).bind(**{name: value for name, value in given.items() if name in parameters})
    for name, value in bound.arguments.items():
        wanted = parameters[name].annotation
        if wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
            if wanted(value) != value:
                raise ValueError(f"{name} is {value!r}, which is no {wanted.__name__}")
            bound.arguments[name] = wanted(value)
        elif wanted == tuple[float, ...] and isinstance(value, list):
            bound.arguments[name] = tuple(map(float, value))
        elif wanted not in (str, bool) or not isinstance(value, wanted):
            raise TypeError(f"{name} is {value!r:.100}, which is not {TYPES[wanted]['type']}")
    return bound.arguments


def _shown(result: Result) -> dict[str, Any]:
    """A result as MCP has it."""
    links = [{"type": "resource_link", "name": name, "uri": f"file:///{name}"} for name in result.files]
    return {"content": [{"type": "text", "text": result.text}, *links], "isError": result.is_error}


def _request(line: bytes) -> tuple[Number | None, str, dict[str, Any]]:
    """A message's id, method and parameters; no id: a notification.

    Raises:
        ProtocolError: it is not JSON, or no request.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as reason:
        raise ProtocolError(NO_JSON, f"not JSON: {reason}") from None
    if isinstance(request, dict) and isinstance(method := request.get("method"), str):
        number, parameters = request.get("id"), request.get("params", {})
        if isinstance(parameters, dict) and isinstance(number, int | str | None):
            return number, method, parameters
    raise ProtocolError(NO_REQUEST, "not a request with a method, and parameters by name")


def _send_error(replies: BinaryIO, number: Number | None, failure: ProtocolError) -> None:
    code, message = failure.args
    _send(replies, number, error={"code": code, "message": message})


def _send(replies: BinaryIO, number: Number | None, **outcome: Any) -> None:
    reply = json.dumps({"jsonrpc": "2.0", "id": number, **outcome}, ensure_ascii=False)
    replies.write(reply.encode("utf-8", "replace") + b"\n")
    replies.flush()
