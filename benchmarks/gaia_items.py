#!/usr/bin/env python
"""Made-up questions in GAIA's shape, and an OpenAI-compatible endpoint that answers them; no line of GAIA is in here.

    python benchmarks/gaia_items.py --log FILE          # serves until its input is closed; prints its port

The endpoint's replies follow from the question alone, and so do their latencies. It calls the tool `python` one to five
times, and answers with what the last call printed. One answer in four is wrong, always the same ones.
"""

import argparse
import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COUNT = 165  # of GAIA's validation split
LEVELS = (53, 86, 26)  # how many items each level has there
CALLS = ((1, 2), (2, 3), (3, 5))  # of the tool, at least and at most, by level
TURN_SECONDS, SPREAD = 1.0, 0.6  # median and sigma of the log-normal latency of a turn
ITEM = re.compile(r"Case (\d{3}):")
RESULT = re.compile(r"step (\d+): ([^\n]+)")
ANSWERING_TOOLS = ("final_answer", "submit")  # of agents that answer by a call


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        code: what the endpoint has the tool run, call by call; each prints `step N: RESULT`.
        truth: the gold answer, the result of the last call.
        seconds: latency of each turn; the last turn answers.
    """

    number: int
    level: int
    question: str
    code: tuple[str, ...]
    truth: str
    is_right: bool
    seconds: tuple[float, ...]

    @property
    def task_id(self) -> str:
        return f"case-{self.number:03d}"

    @property
    def row(self) -> dict[str, Any]:
        """A line of GAIA's metadata.jsonl."""
        columns = {"task_id": self.task_id, "Question": self.question, "Final answer": self.truth}
        return columns | {"Level": self.level, "file_name": ""}

    def answer(self, result: str) -> str:
        return result if self.is_right else f"{result} or so"


def items(count: int = COUNT) -> list[Item]:
    """The first so many items. The levels are mixed as in the whole."""
    return [_item(number, level) for number, level in enumerate(_levels()[:count])]


@cache
def _levels() -> list[int]:
    levels = [level for level, many in enumerate(LEVELS, 1) for _ in range(many)]
    random.Random(0).shuffle(levels)
    return levels


def _item(number: int, level: int) -> Item:
    chance = random.Random(number)
    calls = chance.randint(*CALLS[level - 1])
    a, b = chance.randint(100, 999), chance.randint(10, 99)
    word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=9))
    asks, computes, truth = chance.choice(
        [
            (f"What is {a} squared plus {b}?", f"{a} ** 2 + {b}", str(a**2 + b)),
            (f"Which word is {word} backwards?", f"{word!r}[::-1]", word[::-1]),
            (
                f"List the three multiples of {b} from {a * b} on.",
                f"', '.join(str({b} * each) for each in range({a}, {a + 3}))",
                ", ".join(str(b * each) for each in range(a, a + 3)),
            ),
        ]
    )
    before = [f"print('step {at}:', sum(map(int, str({a} ** {at}))))" for at in range(1, calls)]
    return Item(
        number,
        level,
        f"Case {number:03d}: {asks}",
        (*before, f"print('step {calls}:', {computes})"),
        truth,
        chance.random() >= 0.25,
        tuple(chance.lognormvariate(0, SPREAD) * TURN_SECONDS for _ in range(calls + 1)),
    )


def bound(played: Sequence[Item], slots: int, scale: float) -> float:
    """Seconds that the latencies alone take in so many slots: max(longest, sum / slots)."""
    each = [sum(item.seconds) * scale for item in played]
    return max(max(each), sum(each) / slots)


def reply(body: dict[str, Any]) -> tuple[Item, int, dict[str, Any]] | None:
    """The item, the turn from 0, and the message of the assistant; None: no item is asked for."""
    said = "\n".join(_texts(body["messages"]))
    if not (asked := ITEM.search(said)):
        return None
    item = _item(int(asked[1]), _levels()[int(asked[1])])
    results = {int(step): result.strip() for step, result in RESULT.findall(said)}
    turn = len(results)
    if turn < len(item.code):
        return item, turn, _call("python", {"code": item.code[turn]}, item, turn)
    answer = item.answer(results[turn])
    offered = {tool["function"]["name"] for tool in body.get("tools", [])}
    for name in ANSWERING_TOOLS:
        if name in offered:
            return item, turn, _call(name, {"answer": answer}, item, turn)
    return item, turn, {"role": "assistant", "content": f"FINAL ANSWER: {answer}"}


def _texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        yield from (part.get("text", "") for part in parts)


def _call(name: str, arguments: dict[str, Any], item: Item, turn: int) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{item.number}_{turn}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class Endpoint(ThreadingHTTPServer):
    """Replies after each item's own latency, times `scale`. The log has a line for each request and each reply."""

    request_queue_size = 128

    def __init__(self, log: Path, scale: float):
        lock = threading.Lock()
        file = log.open("a", buffering=1)

        def note(what: str, item: Item, turn: int) -> None:
            is_last = turn == len(item.code)
            line = {"time": time.time(), "what": what, "item": item.number, "turn": turn, "last": is_last}
            with lock:
                file.write(json.dumps(line) + "\n")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                found = reply(body)
                if found:
                    item, turn, message = found
                    note("asked", item, turn)
                    time.sleep(item.seconds[turn] * scale)
                    self._send(message)
                    note("replied", item, turn)
                else:  # a greeting, whether it is there at all
                    self._send({"role": "assistant", "content": "ok"})

            def _send(self, message: dict[str, Any]) -> None:
                reason = "tool_calls" if message.get("tool_calls") else "stop"
                choice = {"index": 0, "message": message, "finish_reason": reason}
                usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
                made = {"id": "reply", "object": "chat.completion", "created": int(time.time()), "model": "guest"}
                data = json.dumps(made | {"choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked was killed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of the latencies")
    arguments = parser.parse_args()
    with Endpoint(arguments.log, arguments.scale) as endpoint:
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        print(endpoint.server_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
