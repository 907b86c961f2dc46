"""Whether a call's arguments fit the schema of their tool, as far as that can be told here.

Servers come with schemas of every draft of JSON Schema, and of none. What cannot be checked is left to the server.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jsonschema import Draft3Validator, Draft4Validator, Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry


def _unchecked(*_: object) -> Iterator[ValidationError]:
    return iter(())


# Patterns are JavaScript's: Python refuses some of them (\p{L}), and could search with others for hours.
DRAFTS = [
    extend(draft, {"pattern": _unchecked})
    for draft in (Draft202012Validator, Draft7Validator, Draft4Validator, Draft3Validator)
]


class Checker:
    """Checks arguments by the newest draft in which the schema is valid; by none, it finds nothing wrong."""

    def __init__(self, schema: dict[str, Any]):
        drafts = (draft for draft in DRAFTS if _is_valid(schema, draft))
        # a registry of its own: the default one fetches schemas from wherever a $ref says
        self._validators = [draft(schema, registry=Registry()) for draft in drafts][:1]

    def problem(self, arguments: Any) -> str:
        """The fault of the arguments; empty where there is none, or the schema itself is invalid."""
        if not isinstance(arguments, dict):
            return f"{arguments!r} is not of type 'object'"
        found: list[ValidationError] = []
        for validator in self._validators:
            # An unknown type or a broken $ref ends the check. A fault that was found before it still counts.
            with suppress(Exception):
                found.extend(validator.iter_errors(arguments))
        worst = best_match(found)
        return worst.message if worst else ""


def checker(schema: dict[str, Any]) -> Checker:
    """One per schema: servers start with each episode, and to check a schema takes longer than arguments."""
    return _checker(json.dumps(schema))


@lru_cache(maxsize=1000)
def _checker(schema: str) -> Checker:
    return Checker(json.loads(schema))


def _is_valid(schema: dict[str, Any], draft: Any) -> bool:
    try:
        draft.check_schema(schema, format_checker=None)  # formats are patterns, for one
    except (SchemaError, RecursionError):
        return False
    return True
