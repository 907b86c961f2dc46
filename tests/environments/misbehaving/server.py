"""A tool server that comes up as it should and then does what its first argument says. Speaks MCP by hand."""

import json
import os
import sys
import time
from pathlib import Path

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = [{"name": "work", "description": "Works.", "inputSchema": SCHEMA}]


def send(message: dict) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request: int | str, *content: dict, **more: object) -> None:
    send({"id": request, "result": {"content": list(content), **more}})


def misbehave(how: str, request: int) -> None:
    match how:
        case "noise":
            os.write(1, b'DEBUG: working\n\n{}\n[1]\n\xff\xfe\n\x1b[1mdone\x1b[0m "\\\n')
            answer(request, {"type": "text", "text": "after the noise"})
        case "greets":
            answer(request, {"type": "text", "text": "hello"})
        case "half_a_pair":
            answer(request, {"type": "text", "text": "cut in the middle of \ud83d"})
        case "no_utf8":
            os.write(
                1, b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"K\xf6ln"}]}}\n' % request
            )
        case "huge":
            picture = {"type": "image", "mimeType": "image/png", "data": "i" * 3_000_000}
            answer(request, {"type": "text", "text": "x\n" * 1_500_000}, picture)
        case "resources":
            text = {"uri": "file:///a.txt", "mimeType": "text/plain", "text": "what the file says"}
            blob = {"uri": "file:///b.pdf", "mimeType": "application/pdf", "blob": "AAAA"}
            answer(request, *({"type": "resource", "resource": held} for held in (text, blob)))
        case "structured":
            answer(request, structuredContent={"answer": 42})
        case "structured_and_text":
            answer(request, {"type": "text", "text": "42"}, structuredContent={"answer": 42})
        case "picture":
            answer(request, {"type": "image", "mimeType": "image/png", "data": "AAAA"})
        case "link":
            answer(request, {"type": "resource_link", "name": "report", "uri": "file:///report.pdf"})
        case "asks":
            send({"id": "alive?", "method": "ping"})
            send({"id": request, "method": "roots/list"})  # its numbers are its own
            replies = {reply["id"]: reply for reply in (json.loads(sys.stdin.readline()) for _ in range(2))}
            seen = f"{replies['alive?']['result']} {replies[request]['error']['code']}"
            answer(request, {"type": "text", "text": seen})
        case "deaf":
            while True:
                send({"id": "\ud83d" * 50_000, "method": "ping"})
        case "deep":
            send({"id": request, "result": {"structuredContent": eval("[" * 150 + "]" * 150)}})
        case "links":
            link = {"type": "resource_link", "name": "n", "uri": "u"}
            answer(request, *[link, {"type": "text", "text": ""}] * 100_000)
        case "other_type_of_id":
            answer(str(request), {"type": "text", "text": "by a string"})
        case "hang":
            time.sleep(1000)
        case "die":
            os._exit(3)
        case "garbage":
            print("this is not JSON", flush=True)
        case "wrong_shape":
            send({"id": request, "result": {"content": 7}})
        case "flood_lines":
            while True:
                os.write(1, b"noise\n" * 10_000)
        case "flood_messages":
            note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).encode() + b"\n"
            while True:
                os.write(1, note * 1000)
        case "flood_one_line":
            for _ in range(100):
                os.write(1, b"x" * (1 << 20))
        case "flood_stderr":
            while True:
                os.write(2, b"x" * (1 << 16))
        case "other_id":
            send({"id": 999_999, "result": {"content": [{"type": "text", "text": "for nobody"}]}})
        case "protocol_error":
            send({"id": request, "error": {"code": -32602, "message": "no such thing"}})
        case "long":
            send({"id": request, "result": {"content": [{"type": "text", "text": "y" * 5000}]}})
        case "die_leaving_a_child":
            if os.fork() == 0:
                os.closerange(0, 3)
                time.sleep(1000)
            os._exit(3)
        case "fork_and_hang":
            if os.fork() == 0:
                os.setsid()
                Path("forked").touch()
            time.sleep(1000)


def main(how: str) -> None:
    if how == "dies_at_start":
        raise SystemExit("the reason is written here")
    if how == "greets":
        print("Starting up…\nlistening on stdio\n", flush=True)
    if how == "greets_and_dies":
        raise SystemExit(print("no licence"))
    if how == "mute":
        time.sleep(1000)
    for line in sys.stdin:
        message = json.loads(line)
        match message["method"]:
            case "initialize":
                info = {"capabilities": {"tools": {}}, "serverInfo": {"name": "bad", "version": "1"}}
                version = "1999-01-01" if how == "other_version" else message["params"]["protocolVersion"]
                send({"id": message["id"], "result": {"protocolVersion": version, **info}})
            case "tools/list":
                if how == "pages" and "cursor" not in message["params"]:
                    send({"id": message["id"], "result": {"tools": [{**TOOLS[0], "name": "other"}], "nextCursor": "2"}})
                else:
                    send({"id": message["id"], "result": {"tools": TOOLS}})
            case "tools/call":
                misbehave(how, message["id"])


main(sys.argv[1])
