"""Requests to a tool server and its replies, line by line, beside the messages of the protocol's official SDK."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import mcp_types
import pytest

from aworld.environments.mcp_session import LineSession, ServerError, message_of

pytestmark = pytest.mark.unit


def told(story: Callable[[LineSession, list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    """The messages that a session sent while the story went on."""
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        session = LineSession(lambda line: sent.append(json.loads(line, parse_constant=pytest.fail)))
        await story(session, sent)

    asyncio.run(run())
    return sent


async def replied(session: LineSession, request: Any, reply: dict[str, Any], sent: list[dict[str, Any]]) -> Any:
    task, before = asyncio.create_task(request), len(sent)
    while len(sent) == before:
        await asyncio.sleep(0)
    session.receive({"jsonrpc": "2.0", "id": sent[-1]["id"], **reply})
    return await task


def test_what_is_sent_is_what_the_sdk_reads() -> None:
    async def story(session: LineSession, sent: list[dict[str, Any]]) -> None:
        greeting = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        await replied(session, session.begin(), {"result": greeting}, sent)
        await replied(session, session.list_tools("page 2"), {"result": {"tools": []}}, sent)
        await replied(session, session.call_tool("work", {"n": 1.5, "m": float("nan")}), {"result": {}}, sent)

    greeting, noted, listed, called = told(story)
    mcp_types.InitializeRequest.model_validate(greeting)
    mcp_types.InitializedNotification.model_validate(noted)
    assert mcp_types.ListToolsRequest.model_validate(listed).params.cursor == "page 2"
    assert mcp_types.CallToolRequest.model_validate(called).params.arguments == {"n": 1.5, "m": None}
    assert "id" not in noted and len({greeting["id"], listed["id"], called["id"]}) == 3


def test_a_server_that_asks_gets_a_reply_and_one_that_tells_gets_none() -> None:
    async def story(session: LineSession, _: list[dict[str, Any]]) -> None:
        session.receive({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
        session.receive({"jsonrpc": "2.0", "id": "a", "method": "ping"})
        session.receive({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {}})

    ping, refusal = told(story)
    assert (ping["id"], ping["result"]) == ("a", {})
    assert refusal["id"] == 7 and refusal["error"]["code"] == mcp_types.METHOD_NOT_FOUND


def test_replies_find_their_requests_and_a_server_that_ends_leaves_none_waiting() -> None:
    async def story(session: LineSession, sent: list[dict[str, Any]]) -> None:
        calls = [asyncio.create_task(session.call_tool("work", {"n": n})) for n in range(3)]
        while len(sent) < 3:
            await asyncio.sleep(0)
        session.receive({"jsonrpc": "2.0", "id": 999, "result": {"n": "for nobody"}})
        session.receive({"jsonrpc": "2.0", "id": str(sent[1]["id"]), "result": {"n": 1}})  # an id as text
        assert await calls[1] == {"n": 1}
        session.receive({"jsonrpc": "2.0", "id": sent[0]["id"], "error": {"code": -32602, "message": "no such thing"}})
        with pytest.raises(ServerError, match="no such thing"):
            await calls[0]
        session.end("it ended")
        for request in (calls[2], session.list_tools(None)):
            with pytest.raises(ServerError, match="it ended"):
                await request
        with pytest.raises(ServerError, match="is a list and no object"):
            fresh = LineSession(lambda line: sent.append(json.loads(line)))
            await replied(fresh, fresh.list_tools(None), {"result": []}, sent)

    told(story)


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"text":"cut \\ud83d"}}', {"text": "cut ?"}),
        (b'{"jsonrpc":"2.0","id":1,"result":{"text":"whole \\ud83d\\ude00"}}', {"text": "whole \U0001f600"}),
        (b'{"jsonrpc":"2.0","id":1,"result":{"text":"K\xf6ln"}}', {"text": "K\ufffdln"}),
    ],
)
def test_a_text_is_read_whatever_its_encoding(line: bytes, result: dict[str, str]) -> None:
    message = message_of(line)
    assert message is not None and message["result"] == result
    json.dumps(message, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "line",
    [b"listening", b"", b"{}", b"[1]", b"7", b'{"id":1,"result":{}}', b"[" * 100_000, b'{"jsonrpc":"2.0","id":1}'],
)
def test_what_is_no_message_is_told_apart(line: bytes) -> None:
    assert message_of(line) is None
