"""Parse the text of a turn into thought, words, and Hermes tool calls, which are JSON within <tool_call>."""

import json
from dataclasses import dataclass

from aworld.agents.protocols import ToolCall

THINK, END_OF_THOUGHT = "<think>", "</think>"
CALL, END_OF_CALL = "<tool_call>", "</tool_call>"
_EXTENT = json.JSONDecoder(strict=False)  # finds the end of a call also where its strings hold line breaks


@dataclass(frozen=True)
class Parts:
    """
    Attributes:
        words: the text without its thought and its calls.
        calls: the well-formed ones, in their order.
        error: what is wrong with the first malformed call; None: all are well-formed.
        wrong: the text of that call.
    """

    words: str
    calls: tuple[ToolCall, ...]
    error: str | None
    wrong: str = ""


def parts(text: str, is_thinking: bool = False) -> Parts:
    """Read a turn. `is_thinking`: its thought was opened before it began. Never raises."""
    words: list[str] = []
    calls: list[ToolCall] = []
    error, wrong = None, ""
    _, rest = split_thought(text, is_thinking)
    while rest:
        before, tag, rest = rest.partition(CALL)
        words.append(before)
        if not tag:
            break
        body, is_closed, rest = _body(rest)
        call = _tool_call(body) if is_closed else f"the tool call is not closed by {END_OF_CALL}"
        if isinstance(call, ToolCall):
            calls.append(call)
        elif error is None:
            error, wrong = call, body
        if not is_closed:
            break
    return Parts("".join(words).strip(), tuple(calls), error, wrong)


def split_thought(text: str, is_thinking: bool) -> tuple[str, str]:
    """The thought that a turn begins with, up to the first </think>, and the rest. Later the tags are mere text."""
    if not (is_thinking or text.lstrip().startswith(THINK)):
        return "", text
    thought, _, rest = text.partition(END_OF_THOUGHT)
    return thought.lstrip().removeprefix(THINK).strip(), rest


def _body(text: str) -> tuple[str, bool, str]:
    """A call's text, whether it is closed, and what follows it. A </tool_call> within its JSON does not close it."""
    try:
        _, end_of_json = _EXTENT.raw_decode(text, len(text) - len(text.lstrip()))
    except (ValueError, RecursionError):
        end_of_json = 0
    end = text.find(END_OF_CALL, end_of_json)
    return (text, False, "") if end < 0 else (text[:end], True, text[end + len(END_OF_CALL) :])


def _tool_call(body: str) -> ToolCall | str:
    """The call, or what is wrong with it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"the tool call is not valid JSON: {error}"
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return 'the tool call is not an object with a "name"'
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):  # some models write the arguments as a JSON string
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return 'the "arguments" of the tool call are not valid JSON'
    if not isinstance(arguments, dict):
        return 'the "arguments" of the tool call are not an object'
    return ToolCall(value["name"], arguments)
