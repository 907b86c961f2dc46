"""Replies as endpoints give them, and as they should not."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.agents.protocols import ToolCall
from aworld.agents.reply import read

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


def reply(content: Any = "hm", arguments: Any = '{"code": "1"}', **changes: Any) -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "python", "arguments": arguments}}
    message = {"role": "assistant", "content": content, "tool_calls": [call], "reasoning_content": "so"}
    usage = {"completion_tokens": 7, "total_tokens": 20}
    choice = {"message": message, "finish_reason": "stop", "token_ids": [1, 2]}
    return {"choices": [choice], "usage": usage} | changes


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@given(st.sampled_from(places(reply())[1:]), JSON)
def test_whatever_stands_anywhere_in_a_reply_it_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
    body = copy.deepcopy(reply())
    node = body
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    try:
        said = read(body)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in said.message.get("tool_calls", []))
    assert len(said.calls) == len(said.message.get("tool_calls", []))
    assert said.tokens > 0 and said.total >= 0 and all(0 <= token < 2**31 for token in said.token_ids)
    assert isinstance(said.text, str) and isinstance(said.shown, str)


@given(JSON)
def test_what_is_no_completion_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"reply is|choices is"):
        read(body)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"code": "1"}, {"code": "1"}),
        ('{"code": "1"}', {"code": "1"}),
        ("", {}),
        (None, {}),
    ],
)
def test_arguments_are_text_or_an_object(arguments: Any, expected: dict[str, Any]) -> None:
    assert read(reply(arguments=arguments)).calls == (ToolCall("python", expected),)


@pytest.mark.parametrize("arguments", ["{oops", "[1]", "[]", [], 0, [1], "[" * 100_000])
def test_arguments_that_are_none_are_an_error_for_the_model_to_read(arguments: Any) -> None:
    (call,) = read(reply(arguments=arguments)).calls
    assert call.name == "python" and call.error.startswith("the arguments are not ")


def test_text_comes_in_parts_too() -> None:
    parts = [{"type": "text", "text": "<answer>4"}, {"type": "image_url", "image_url": {"url": "x"}}, "2</answer>"]
    said = read(reply(content=parts))
    assert said.text == said.message["content"] == "<answer>42</answer>"
    assert said.shown == 'so\n<answer>42</answer>\npython({"code": "1"})'


@pytest.mark.parametrize("usage", [None, {}, {"completion_tokens": None, "total_tokens": None}, [], "10"])
def test_without_a_count_there_is_an_estimate_on_the_high_side(usage: Any) -> None:
    body = reply("word " * 100, usage=usage)
    assert read(body).tokens == 2  # the ids that came
    body["choices"][0].pop("token_ids")
    assert read(body).tokens > 100 and read(body).total == 0


def test_what_an_endpoint_adds_to_a_call_goes_back_to_it() -> None:
    body = reply()
    body["choices"][0]["message"]["tool_calls"][0] |= {"extra_content": {"signature": "s"}, "id": None}
    (call,) = read(body).message["tool_calls"]
    assert call["extra_content"] == {"signature": "s"} and call["id"] == "call-0"
