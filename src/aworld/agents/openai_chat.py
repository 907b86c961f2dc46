"""OpenAI's chat completions, as a server reads and writes them.

Clients change what they send back: no content becomes null or a list, calls get other ids, arguments are written anew,
thoughts are left out. Two messages are one and the same (`Said`) where role, words and calls are.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import AssistantMessage

MODEL = "policy"
ROLES = {"developer": "system", "function": "tool"}  # of other times, and their names in the template
Said = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Request:
    """A request for a turn.

    Attributes:
        messages, tools: as a chat template takes them.
        said: the same messages, for comparison.
        max_tokens: of the turn; None: the request does not say.
        stop: texts that end what the program gets; the policy's turn goes on.
        with_usage: whether a stream ends with the number of tokens.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    said: list[Said]
    max_tokens: int | None
    stop: tuple[str, ...]
    is_stream: bool
    with_usage: bool


def read(body: Any) -> Request:
    """Read the JSON of a request.

    Raises:
        ValueError: it is none, or asks for what a policy in training cannot do; one line for the program.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ValueError("messages: a list of messages is needed")
    if body.get("n") not in (None, 1):
        raise ValueError("n: the policy gives one choice; ask again for another")
    form = body.get("response_format") or {"type": "text"}
    if not isinstance(form, dict) or form.get("type") != "text":
        raise ValueError("response_format: the policy samples freely; read its text, or offer a tool with this schema")
    messages = [as_read(message) for message in body["messages"]]
    stop = body.get("stop") or ()
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    options = body.get("stream_options") or {}
    return Request(
        messages,
        [_tool(tool) for tool in body.get("tools") or []],
        [said(message) for message in messages],
        most if type(most) is int and most > 0 else None,
        (stop,) if isinstance(stop, str) else tuple(word for word in stop if isinstance(word, str) and word),
        bool(body.get("stream")),
        isinstance(options, dict) and bool(options.get("include_usage")),
    )


def as_read(given: Any) -> dict[str, Any]:
    """A message as a chat template takes it.

    Raises:
        ValueError: it is none, or holds more than text.
    """
    role = given.get("role") if isinstance(given, dict) else None
    role = ROLES.get(str(role), role)
    if role not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"messages: no role {str(role)[:40]!r}; there are system, user, assistant and tool")
    message: dict[str, Any] = {"role": role, "content": _words(given.get("content"))}
    if calls := given.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def as_sent(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of `as_read` as a client sends them: each call has an id, which its result names."""
    sent: list[dict[str, Any]] = []
    waiting: list[str] = []
    for at, message in enumerate(messages):
        if calls := message.get("tool_calls"):
            waiting = [f"call-{at}-{number}" for number in range(len(calls))]
            functions = [call["function"] | {"arguments": _text(call["function"]["arguments"])} for call in calls]
            pairs = zip(waiting, functions, strict=True)
            message = message | {"tool_calls": [{"id": one, "type": "function", "function": f} for one, f in pairs]}
        elif message["role"] == "tool":
            message = message | {"tool_call_id": waiting.pop(0) if waiting else f"call-{at}"}
        sent.append(message)
    return sent


def said(message: dict[str, Any]) -> Said:
    """A message as `read` gives it, without what clients change."""
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = tuple((one["name"], json.dumps(one["arguments"], sort_keys=True)) for one in functions)
    return message["role"], message["content"].strip(), calls


def reply(message: AssistantMessage, chat: ChatFormat, stop: tuple[str, ...]) -> dict[str, Any]:
    """The policy's turn as a message. A malformed call stays in its words, for the program to read."""
    calls = [call for call in message.calls if not call.error]
    thought, rest = chat.split_thought(message.text)
    words = message.content if len(calls) == len(message.calls) else rest
    for word in stop:
        words = words.partition(word)[0]
    found: dict[str, Any] = {"role": "assistant", "content": words if words or not calls else None}
    if thought:
        found["reasoning_content"] = thought
    if calls:
        found["tool_calls"] = [
            {
                "id": f"call_{uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
    return found


def completion(message: dict[str, Any], ended: bool, prompt: int, sampled: int) -> dict[str, Any]:
    """The body of a chat completion; `prompt`, `sampled`: numbers of tokens."""
    finish = "length" if not ended else "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}
    return _object("chat.completion") | {"choices": [choice], "usage": usage}


def chunks(whole: dict[str, Any], with_usage: bool) -> Iterator[str]:
    """The same completion as the events of a stream."""
    (choice,) = whole["choices"]
    message = choice["message"]
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls", ()))]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{key: message[key]} for key in ("reasoning_content", "content") if message.get(key)]
    deltas += [{"tool_calls": [call]} for call in calls]
    head = whole | {"object": "chat.completion.chunk"}
    head.pop("usage")
    for delta, finish in [*((delta, None) for delta in deltas), ({}, choice["finish_reason"])]:
        part = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        yield _event(head | {"choices": [part]})
    if with_usage:
        yield _event(head | {"choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


def models() -> dict[str, Any]:
    """The list of models: the policy alone. A request may name any."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "aworld"}]}


def error(code: str, reason: str) -> dict[str, Any]:
    """The body of a refusal."""
    return {"error": {"message": reason, "type": "invalid_request_error", "param": None, "code": code}}


def _object(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": MODEL}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _words(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if len(texts) < len(parts):
        raise ValueError("messages: the policy reads text alone, no pictures, sounds or files")
    return "".join(texts)


def _call(given: Any) -> dict[str, Any]:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("messages: a tool call needs a function with a name")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # the template takes text as well
            arguments = json.loads(arguments)
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _tool(given: Any) -> dict[str, Any]:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("tools: each needs a function with a name")
    kept = {"name": function["name"], "description": str(function.get("description") or "")}
    return {"type": "function", "function": kept | {"parameters": function.get("parameters") or {"type": "object"}}}
