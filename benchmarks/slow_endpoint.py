"""An OpenAI-compatible endpoint that answers as late as a model would: the same seconds for each turn, whoever asks.

    python benchmarks/slow_endpoint.py --seed 0 --median 4

A question has a task's number, as in `[task 7]`. The first turn calls the tool that the request offers, the second one
gives its result as the answer. The seconds of a turn are log-normal, drawn from seed, task and turn. The first line on
stdout is the address. `GET /asked` gives the turns since it was asked for last.
"""

import argparse
import asyncio
import json
import random
import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SIGMA = 0.58  # of the logarithm of a turn's seconds
TURNS = 2
MODEL = "slow"


@dataclass(frozen=True)
class Asked:
    """A turn that was asked for: when, in seconds of `time.time`, and whether all is right so far."""

    task: int
    turn: int
    arrived: float
    replied: float
    is_right: bool


@dataclass(frozen=True)
class Latency:
    """The seconds of each turn of each task."""

    seed: int
    median: float

    def turn(self, task: int, turn: int) -> float:
        return self.median * random.Random(f"{self.seed}/{task}/{turn}").lognormvariate(0.0, SIGMA)

    def task(self, task: int) -> float:
        """The seconds of an episode that spends none but the model's."""
        return sum(self.turn(task, turn) for turn in range(TURNS))


def code(task: int) -> str:
    return f"print({task} * 97 + 13)"


def result(task: int) -> str:
    return str(task * 97 + 13)


def question(task: int) -> str:
    return f"[task {task}] What is {task} * 97 + 13? Use the tool, and give the number alone in <answer></answer>."


def asked(address: str) -> list[Asked]:
    """The turns that an endpoint was asked for since the last such question, in the order of their replies."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/asked") as reply:
        return [Asked(**row) for row in json.load(reply)]


def reply_to(body: dict[str, Any]) -> tuple[int | None, int, dict[str, Any], bool]:
    """Task, turn, message, and whether the last message is what the task leads to; no task: a greeting."""
    messages = body["messages"]
    texts = [_text(message) for message in messages]
    if not (found := re.search(r"\[task (\d+)\]", "\n".join(texts))):
        return None, 0, {"role": "assistant", "content": "ok"}, True
    task, turn = int(found[1]), sum(message["role"] == "assistant" for message in messages)
    if turn == 0:
        function = body["tools"][0]["function"]
        arguments = json.dumps({next(iter(function["parameters"]["properties"])): code(task)})
        call = {
            "id": f"call_{task}",
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        }
        return task, turn, {"role": "assistant", "content": None, "tool_calls": [call]}, True
    is_right = re.search(rf"(?<!\d){result(task)}(?!\d)", texts[-1]) is not None
    said = result(task) if is_right else "none"
    return task, turn, {"role": "assistant", "content": f"<answer>{said}</answer>"}, is_right


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


class Endpoint:
    """Serves HTTP/1.1 with connections that stay open."""

    def __init__(self, latency: Latency):
        self._latency = latency
        self._asked: list[Asked] = []

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                path = head.split(b" ", 2)[1].decode()
                kind, content = await self._answer(path, body)
                start = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
                writer.write(start.encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed it
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> tuple[str, bytes]:
        if path == "/asked":
            found, self._asked = self._asked, []
            return "application/json", json.dumps([asdict(one) for one in found]).encode()
        if not path.endswith("/chat/completions"):
            return "application/json", json.dumps(
                {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            ).encode()
        arrived, request = time.time(), json.loads(body)
        task, turn, message, is_right = reply_to(request)
        if task is not None:
            await asyncio.sleep(self._latency.turn(task, turn))
            self._asked.append(Asked(task, turn, arrived, time.time(), is_right))
        return completion(message, request)


def completion(message: dict[str, Any], request: dict[str, Any]) -> tuple[str, bytes]:
    """Type and content of a chat completion with this message; as a stream where the request asks for one."""
    whole: dict[str, Any] = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": MODEL}
    usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
    finish = "tool_calls" if "tool_calls" in message else "stop"
    if not request.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return "application/json", json.dumps(whole | {"choices": [choice], "usage": usage}).encode()
    calls = [{"index": at, **call} for at, call in enumerate(message.get("tool_calls", ()))]
    delta = message | ({"tool_calls": calls} if calls else {})
    parts = [({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}), {"choices": [], "usage": usage}]
    events = [json.dumps(whole | {"object": "chat.completion.chunk"} | part) for part in parts]
    return "text/event-stream", "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def order(turns: Sequence[Asked]) -> list[int]:
    """The tasks in the order in which they were begun."""
    return [one.task for one in sorted(turns, key=lambda one: one.arrived) if one.turn == 0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--median", type=float, default=4.0, help="seconds of a turn")
    arguments = parser.parse_args()
    asyncio.run(Endpoint(Latency(arguments.seed, arguments.median)).serve())
