"""A tool server: the Model Context Protocol over stdio, as far as a server of tools needs it.

Every episode may start one, and the protocol's official SDK takes 0.8 s of CPU to import. This starts in 0.04 s, as it
leaves asyncio, inspect and dataclasses to tools that need them.
https://modelcontextprotocol.io/specification/2025-11-25
"""

import json
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from aworld.tools.common.result import Result, error

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # alike in all that is used here; newest first
TYPES: dict[Any, dict[str, Any]] = {  # of a parameter
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    tuple[float, ...]: {"items": {"type": "number"}, "type": "array"},
}
# error codes of JSON-RPC
NO_JSON, NO_REQUEST, NO_METHOD, BAD_PARAMETERS, FAULT = -32700, -32600, -32601, -32602, -32603
CO_COROUTINE = 0x80  # of a function's flags, as `inspect` has it

Tool = Callable[..., Any]
Number = int | str  # of a request: its id


class ProtocolError(Exception):
    """A request that is answered by a JSON-RPC error: its code and message."""


class Parameter(NamedTuple):
    """A parameter of a tool; without a default it is required."""

    type: Any
    default: tuple[Any, ...]


class Offered(NamedTuple):
    """A tool, its parameters, and its spec, which clients are told."""

    call: Tool
    spec: dict[str, Any]
    parameters: dict[str, Parameter]

    @property
    def is_coroutine(self) -> bool:
        return bool(self.call.__code__.co_flags & CO_COROUTINE)


class ToolServer:
    """Tools that are functions. The types and defaults of their parameters become the tools' JSON schemas.

    A plain function runs in the main thread, and the next request waits for its end. Coroutine functions run side by
    side, on an event loop in a thread of its own.
    """

    def __init__(self) -> None:
        self._tools: dict[str, Offered] = {}
        self._calls: dict[str, Future[None]] = {}  # of coroutine functions, under way, by the id of the request
        self._loop: AbstractEventLoop | None = None

    def add_tool(self, tool: Tool, description: str) -> None:
        """Offer a function as a tool of its name.

        Raises:
            KeyError: a parameter is of a type that TYPES does not have.
        """
        name, parameters = tool.__name__, _parameters(tool)
        spec = {"name": name, "description": description, "inputSchema": _schema(parameters)}
        self._tools[name] = Offered(tool, spec, parameters)

    def run(self) -> None:
        """Serve this process's stdin and stdout until stdin ends. What else is printed goes to stderr."""
        requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        for line in requests:
            self._take(replies, line)

    def _take(self, replies: BinaryIO, line: bytes) -> None:
        try:
            number, method, parameters = _request(line)
        except ProtocolError as failure:
            _send_error(replies, None, failure)
            return
        if method == "notifications/cancelled":
            if call := self._calls.get(str(parameters.get("requestId"))):
                call.cancel()
        elif number is not None:
            reply = self._reply(replies, number, method, parameters)
            tool = self._tools.get(str(parameters.get("name"))) if method == "tools/call" else None
            if tool and tool.is_coroutine:
                self._run_beside(str(number), reply)
            else:
                with suppress(StopIteration):
                    reply.send(None)  # nothing in it waits: this runs it to its end

    def _run_beside(self, key: str, reply: Coroutine[Any, Any, None]) -> None:
        import asyncio
        import threading

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._calls[key] = call = asyncio.run_coroutine_threadsafe(reply, self._loop)
        call.add_done_callback(lambda _: self._calls.pop(key, None))

    async def _reply(self, replies: BinaryIO, number: Number, method: str, parameters: dict[str, Any]) -> None:
        try:
            result = await self._answer(method, parameters)
        except ProtocolError as failure:
            _send_error(replies, number, failure)
        except Exception as failure:  # a request without a reply would be waited for
            _print_trace(failure)
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
        tool = self._tools[name]
        try:
            given = _arguments(tool.parameters, arguments)
        except (TypeError, ValueError, OverflowError) as reason:
            return error(f"wrong arguments for {name}: {reason}")
        try:
            return await tool.call(**given) if tool.is_coroutine else tool.call(**given)
        except Exception as reason:  # a fault of the tool must not cost the server
            _print_trace(reason)
            return error(f"{name} failed: {type(reason).__name__}: {' '.join(str(reason).split())[:200]}")


def _parameters(tool: Tool) -> dict[str, Parameter]:
    """The parameters of a function that has positional ones alone."""
    names = tool.__code__.co_varnames[: tool.__code__.co_argcount]
    defaults = tool.__defaults__ or ()  # type: ignore[attr-defined]  # of the last parameters
    known: list[tuple[Any, ...]] = [()] * (len(names) - len(defaults)) + [(value,) for value in defaults]
    types = [tool.__annotations__[name] for name in names]
    return dict(zip(names, map(Parameter, types, known), strict=True))


def _schema(parameters: dict[str, Parameter]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments."""
    properties = {
        name: {**({"default": one.default[0]} if one.default else {}), **TYPES[one.type]}
        for name, one in parameters.items()
    }
    required = [name for name, one in parameters.items() if not one.default]
    return {"properties": properties, **({"required": required} if required else {}), "type": "object"}


def _arguments(parameters: dict[str, Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the function takes them: JSON knows no tuple, and 2.0 is an integer to its schemas.

    Arguments that the tool does not know are left out, as its schema does not forbid them.

    Raises:
        TypeError: one is missing, or of another type.
        ValueError: a number is not one of the parameter's type.
        OverflowError: a number is too large for it.
    """
    if missing := [name for name, one in parameters.items() if not one.default and name not in given]:
        raise TypeError(f"missing a required argument: {missing[0]!r}")
    return {name: _value(name, one.type, given[name]) for name, one in parameters.items() if name in given}


def _value(name: str, wanted: Any, value: Any) -> Any:
    """An argument as the function takes it. Raises as `_arguments`."""
    if wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if wanted(value) != value:
            raise ValueError(f"{name} is {value!r}, which is no {wanted.__name__}")
        return wanted(value)
    if wanted == tuple[float, ...] and isinstance(value, list):
        return tuple(map(float, value))
    if wanted not in (str, bool) or not isinstance(value, wanted):
        raise TypeError(f"{name} is {value!r:.100}, which is not {TYPES[wanted]['type']}")
    return value


def _print_trace(failure: Exception) -> None:
    import traceback

    traceback.print_exception(failure)


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
