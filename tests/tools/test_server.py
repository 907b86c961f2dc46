"""The protocol, spoken by the official client and by hand."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.mcpserver import MCPServer
from small_server import TOOLS

from aworld.tools.common.server import ToolServer, _send

PROGRAM = Path(__file__).with_name("small_server.py")
LAST = 1000


def told(*lines: str) -> list[dict[str, Any]]:
    """What the server replies to these lines, up to its reply to one more."""
    with subprocess.Popen([sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        for line in (*lines, request(LAST, "ping")):
            server.stdin.write(line.encode("utf-8", "replace") + b"\n")
        server.stdin.flush()
        replies = []
        while not replies or replies[-1]["id"] != LAST:
            replies.append(json.loads(server.stdout.readline()))
        server.stdin.close()
        assert server.wait(60) == 0 and server.stdout.read() == b""
    assert replies.pop()["result"] == {}
    return replies


def request(number: int, method: str, **parameters: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})


def call(number: int, tool: str, **arguments: object) -> str:
    return request(number, "tools/call", name=tool, arguments=arguments)


@pytest.mark.tools
def test_the_official_client_understands_it() -> None:
    async def story() -> None:
        parameters = StdioServerParameters(command=sys.executable, args=[str(PROGRAM)])
        async with Client(stdio_client(parameters), mode="legacy") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == [
                "add",
                "total",
                "fail",
                "wait",
                "lie",
                "echo",
            ]
            result = await client.call_tool("add", {"left": 2, "twice": True})
            assert (result.content[0].text, result.is_error) == ("5.0", False)  # type: ignore[union-attr]
            result = await client.call_tool("total", {"numbers": [1, 2.5]})
            assert [block.type for block in result.content] == ["text", "resource_link"]
            assert result.content[1].name == "sum.txt"  # type: ignore[union-attr]
            waits = [client.call_tool("wait", {"seconds": 1.0}) for _ in range(3)]
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*waits)  # at the same time
            assert asyncio.get_running_loop().time() - began < 2.9

    asyncio.run(story())


@pytest.mark.tools
@pytest.mark.parametrize("tool", TOOLS)
def test_schemas_are_those_of_the_official_sdk(tool: Any) -> None:
    ours, theirs = ToolServer(), MCPServer("theirs")
    ours.add_tool(tool, description="Does it.")
    theirs.add_tool(tool, description="Does it.", structured_output=False)
    spec = ours._tools[tool.__name__].spec
    (listed,) = asyncio.run(theirs.list_tools())

    def plain(node: Any) -> Any:
        return {key: plain(value) for key, value in node.items() if key != "title"} if type(node) is dict else node

    assert json.dumps(spec["inputSchema"]) == json.dumps(plain(listed.input_schema))


@pytest.mark.tools
def test_requests_that_cannot_be_answered() -> None:
    wrong = [
        call(1, "add"),
        call(2, "add", left="2"),
        call(3, "add", left=2.5),
        call(4, "add", left=2, right=10**400),
        call(5, "add", left=True),
    ]
    others = [
        call(6, "none"),
        request(7, "prompts/list"),
        "{",
        "[" * 100_000,
        "[1]",
        '{"id": 8, "method": "ping", "params": []}',
    ]
    right = [call(10, "fail"), call(12, "add", left=2.0, unknown=1), call(13, "lie"), call(14, "echo", text="字\ud83d")]
    notes = ['{"jsonrpc": "2.0", "method": "notifications/initialized"}', '{"id": 9, "result": {}}']
    replies = told(*wrong, *others, *notes, *right)
    by_number = {reply["id"]: reply for reply in replies if reply["id"] is not None}
    for number in range(1, 6):
        result = by_number[number]["result"]
        assert result["isError"] and result["content"][0]["text"].startswith("wrong arguments for add: ")
    assert [by_number[number]["error"]["code"] for number in (6, 7)] == [-32602, -32601]
    assert [reply["error"]["code"] for reply in replies if reply["id"] is None] == [
        -32700,
        -32700,
        -32600,
        -32600,
        -32600,
    ]
    assert by_number[10]["result"]["content"][0]["text"] == "fail failed: RuntimeError: for no reason"
    assert by_number[12]["result"]["content"][0]["text"] == "2.5"
    assert by_number[13]["error"]["code"] == -32603
    assert by_number[14]["result"]["content"][0]["text"] == "字?"


@pytest.mark.tools
def test_text_is_sent_as_utf_8_and_not_escaped() -> None:
    """An escape takes twice the bytes of a Chinese character, and the reader cuts long strings."""
    sent = io.BytesIO()
    _send(sent, 1, result={"text": "字\ud83d"})
    assert "字?".encode() in sent.getvalue()


@pytest.mark.tools
def test_a_call_can_be_taken_back_and_has_no_reply() -> None:
    cancelled = json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
    assert told(call(1, "wait", seconds=100), cancelled, call(3, "wait", seconds=100)) == []  # nor one at the end


@pytest.mark.tools
@settings(max_examples=15)
@given(lines=st.lists(st.one_of(st.text(), st.from_regex(r'\{"id":[0-9],"method":"[a-z/]+"\}')), max_size=5))
def test_no_input_ends_it(lines: list[str]) -> None:
    told(*(" ".join(line.splitlines()) for line in lines))
