"""Schemas as servers really have them: what can be checked is, and the rest is left to the server."""

import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from aworld.environments.arguments import checker

pytestmark = pytest.mark.unit


def problem(schema: Any, value: Any, **root: Any) -> str:
    """Of the argument `a`, which has this schema."""
    return checker({"type": "object", "properties": {"a": schema}, **root}).problem({"a": value})


SLOPPY: dict[str, Any] = {
    "no type of any draft": {"type": "strnig"},
    "draft 3's type": {"type": "any"},
    "null": None,
    "enum of nothing": {"enum": None},
    "a letter of any script": {"type": "string", "pattern": "^[\\p{L}]+$"},
    "a pattern that takes for ever": {"pattern": "^(a+)+$"},
    "a reference to nowhere": {"$ref": "#/definitions/Nope"},
    "a reference to itself": {"$ref": "#/properties/a"},
    "draft 3's required": {"type": "string", "required": True},
    "a keyword of another shape": {"type": "string", "required": True, "items": 7, "properties": []},
}


@pytest.mark.parametrize("name", SLOPPY)
def test_what_cannot_be_checked_is_left_to_the_server(name: str) -> None:
    assert problem(SLOPPY[name], "a" * 40 + "!") == ""


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "array", "items": [{"type": "number"}, {"type": "string"}]}, [1, "x"], ["x", 1]),  # draft 7
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0.5, 0),  # draft 4
        ({"type": "array", "prefixItems": [{"type": "number"}]}, [1], ["x"]),  # 2020-12
        ({"type": "object", "properties": {"b": {"type": "string", "required": True}}}, {"b": ""}, {}),  # draft 3
        ({"$ref": "#/definitions/D"}, 1, "x"),
        ({"$ref": "#/$defs/D"}, 1, "x"),
        (False, None, 1),
    ],
)
def test_each_draft_is_checked_by_its_own_rules(schema: Any, right: Any, wrong: Any) -> None:
    found = {kind: {"D": {"type": "integer"}} for kind in ("definitions", "$defs")}
    assert right is None or problem(schema, right, **found) == ""
    assert problem(schema, wrong, **found) != ""


def test_one_sloppy_property_does_not_hide_what_is_wrong_before_it() -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"a": {"$ref": "#/nowhere"}}}
    assert checker(schema).problem({"a": 1}) == "'n' is a required property"


def test_arguments_are_an_object_whatever_the_schema_says() -> None:
    assert checker({}).problem(["n"]) == "['n'] is not of type 'object'"


def test_no_schema_is_fetched() -> None:
    """A $ref may name any address, also one that only this machine reaches."""
    asked: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(1.0)

        def accept() -> None:
            with suppress(TimeoutError):
                asked.append(listening.accept()[0].close())

        waiting = threading.Thread(target=accept)
        waiting.start()
        assert problem({"$ref": f"http://127.0.0.1:{listening.getsockname()[1]}/s.json"}, 1) == ""
        waiting.join()
    assert asked == []
