"""The gateway: an OpenAI-compatible server for agent programs, beside the policy's engine.

It listens on a socket in a folder that only this user may enter. Each episode has a session with a key of its own: the
program's OPENAI_API_KEY. `/mcp/KEY` serves the tools of the episode's environment as an MCP server.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from aworld.agents import openai_chat
from aworld.agents.session import Refused, Session
from aworld.errors import InfrastructureError
from aworld.nodelocal import own_folder, place_of_sockets

SOCKET = "http"  # name of the socket
MOST_BYTES = 16 << 20  # of a request
STATUSES = {"context_length_exceeded": 400, "invalid_request": 400, "too_many_requests": 429}  # else 403


class Gateway:
    """Serves the sessions that are open.

    Attributes:
        socket: its path, once it is started.
    """

    socket: Path

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._folder = ExitStack()
        tools: Server[Any] = Server("aworld", on_list_tools=self._list_tools, on_call_tool=self._call_tool)
        self._tools = StreamableHTTPSessionManager(tools, json_response=True, stateless=True)
        self._app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Mount("/mcp/{key}", self._serve_tools),
                Route("/{path:path}", self._elsewhere, methods=["GET", "POST"]),
            ]
        )

    async def start(self) -> None:
        """
        Raises:
            InfrastructureError: it cannot listen.
        """
        self.socket = self._folder.enter_context(own_folder(place_of_sockets(), "gateway")) / SOCKET
        self._server = _Server(
            uvicorn.Config(
                self._app,
                uds=str(self.socket),
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._running = asyncio.create_task(self._run())
        while not self._server.started:
            if self._running.done():
                raise InfrastructureError(
                    f"the gateway could not listen on {self.socket}"
                ) from self._running.exception()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._server.should_exit = True
        await asyncio.wait({self._running})
        self._folder.close()

    async def _run(self) -> None:
        async with self._tools.run():
            await self._server.serve()

    @contextmanager
    def serving(self, session: Session) -> Iterator[str]:
        """The key of a session, which is served meanwhile."""
        key = secrets.token_urlsafe(32)
        self._sessions[key] = session
        try:
            yield key
        finally:
            del self._sessions[key]

    async def _complete(self, http: Request) -> Response:
        session = self._session(http.headers.get("authorization", "").removeprefix("Bearer "))
        if session is None:
            return _refusal(401, "invalid_api_key", "no such key; use OPENAI_API_KEY as it was given")
        try:
            body = json.loads(await _body(http))
        except (ValueError, RecursionError) as reason:
            return _refusal(400, "invalid_request", f"not a request in JSON: {reason}")
        turn = session.start(session.complete(body))
        left = asyncio.create_task(_until_left(http))
        try:
            await asyncio.wait({turn, left}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                return Response(status_code=499)  # nobody reads it
            request, whole = await turn
        except Refused as refusal:
            return _refusal(STATUSES.get(refusal.code, 403), refusal.code, str(refusal))
        except InfrastructureError as reason:
            return _refusal(503, "unavailable", str(reason))
        finally:
            left.cancel()
            turn.cancel()
        if request.is_stream:
            return StreamingResponse(openai_chat.chunks(whole, request.with_usage), media_type="text/event-stream")
        return JSONResponse(whole)

    async def _models(self, http: Request) -> Response:
        return JSONResponse(openai_chat.models())

    async def _elsewhere(self, http: Request) -> Response:
        return _refusal(404, "not_found", f"no {http.url.path} here; there are /v1/chat/completions and /v1/models")

    async def _serve_tools(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session(scope["path_params"]["key"]) is None:
            await _refusal(404, "invalid_api_key", "no such key; use AWORLD_MCP_URL as it was given")(
                scope, receive, send
            )
        else:
            await self._tools.asgi_app(scope, receive, send)

    async def _list_tools(self, context: Any, _: Any) -> ListToolsResult:
        tools = [tool["function"] for tool in self._of(context).environment.tools]
        return ListToolsResult(
            tools=[Tool(name=t["name"], description=t["description"], input_schema=t["parameters"]) for t in tools]
        )

    async def _call_tool(self, context: Any, call: CallToolRequestParams) -> CallToolResult:
        session = self._of(context)
        seen = await session.start(session.call(call.name, call.arguments or {}))
        return CallToolResult(content=[TextContent(text=seen.text)], is_error=seen.is_error)

    def _of(self, context: Any) -> Session:
        return self._sessions[context.request.path_params["key"]]

    def _session(self, key: str) -> Session | None:
        return self._sessions.get(key)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave all signals to the worker."""
        yield


async def _body(http: Request) -> bytes:
    found = bytearray()
    async for piece in http.stream():
        found += piece
        if len(found) > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES} bytes")
    return bytes(found)


async def _until_left(http: Request) -> None:
    """Wait until the client has closed its connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _refusal(status: int, code: str, reason: str) -> JSONResponse:
    return JSONResponse(openai_chat.error(code, reason), status)
