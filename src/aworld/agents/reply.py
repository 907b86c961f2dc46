"""Parse a chat completion of an OpenAI-compatible endpoint, also of a sloppy server."""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from aworld.agents.protocols import ToolCall
from aworld.agents.turns import CALL

THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")  # where endpoints give them
BYTES_PER_TOKEN = 3  # low, so that an estimated count of tokens is rather too high than too low
LARGEST = 2**31  # what a token's id and a count are below

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """
    Attributes:
        thought: where the endpoint gives it beside the text.
        message: as it goes back into the conversation; with calls its thoughts go back as well, which some APIs require
            and without which a model would not know why it called.
        shown: what a person reads of it: its thoughts, where the endpoint gives them, its words, its calls.
        ended: whether the model ended it itself; else it was cut at the limit.
        token_ids: sampled, where the endpoint gives them.
        tokens: how many were sampled; an estimate where the endpoint does not count.
        total: tokens of the conversation up to its end; 0: not counted.
    """

    message: dict[str, Any]
    text: str
    calls: tuple[ToolCall, ...]
    thought: str
    shown: str
    ended: bool
    token_ids: list[int]
    tokens: int
    total: int


def read(body: Any) -> Reply:
    """Read a chat completion, parsed from JSON.

    Raises:
        ValueError: it is none.
    """
    choices = _a(list, _a(dict, body, "the reply").get("choices"), "choices")
    choice = _a(dict, choices[0] if choices else None, "choices[0]")
    message = _a(dict, choice.get("message"), "message")
    text = _words(message.get("content"))
    pairs = [_call(n, call) for n, call in enumerate(_a(list, message.get("tool_calls") or [], "tool_calls"))]
    sent, calls = [sent for sent, _ in pairs], tuple(call for _, call in pairs)
    kept = {key: message[key] for key in THOUGHTS if message.get(key) and (sent or CALL in text)}
    thoughts = [message[key] for key in THOUGHTS if isinstance(message.get(key), str)]
    written = [f"{call['function']['name']}({call['function']['arguments']})" for call in sent]
    shown = "\n".join(part for part in (*thoughts[:1], text, *written) if part)
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    token_ids = _token_ids(choice.get("token_ids"))
    estimate = len(shown.encode(errors="replace")) // BYTES_PER_TOKEN + 1
    return Reply(
        {"role": "assistant", "content": text, **kept, **({"tool_calls": sent} if sent else {})},
        text,
        calls,
        "".join(thoughts[:1]),
        shown,
        choice.get("finish_reason") != "length",
        token_ids,
        _count(usage.get("completion_tokens")) or len(token_ids) or estimate,
        _count(usage.get("total_tokens")),
    )


def _a(kind: type[T], value: Any, what: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {str(value)[:100]!r}")
    return value


def _words(content: Any) -> str:
    """Of text, of a list of parts, or of nothing."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return "" if content is None else _a(str, content, "content")


def _call(number: int, given: Any) -> tuple[dict[str, Any], ToolCall]:
    """A call as it goes back into the conversation, with all that the endpoint adds to it, and as it is made."""
    function = _a(dict, _a(dict, given, "a tool call").get("function"), "a tool call's function")
    name = _a(str, function.get("name") or None, "a tool call's name")
    written = function.get("arguments")
    call = _made(name, written)
    # servers parse past calls again, and refuse a conversation with arguments that are no object
    arguments = written if isinstance(written, str) and written and not call.error else json.dumps(call.arguments)
    sent = {**given, "type": "function", "function": {**function, "arguments": arguments}}
    return {**sent, "id": given.get("id") or f"call-{number}"}, call


def _made(name: str, written: Any) -> ToolCall:
    arguments = {} if written in (None, "") else written
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as reason:
            return ToolCall(name, {"": written}, f"the arguments are not valid JSON: {reason}")
    if not isinstance(arguments, dict):
        return ToolCall(name, {"": written}, "the arguments are not an object")
    return ToolCall(name, arguments)


def _count(value: Any) -> int:
    """0 where there is none."""
    return value if type(value) is int and 0 < value < LARGEST else 0


def _token_ids(value: Any) -> list[int]:
    is_good = isinstance(value, list) and all(type(token) is int and 0 <= token < LARGEST for token in value)
    return value if is_good else []
