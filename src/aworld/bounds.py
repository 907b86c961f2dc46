"""The limits of a configuration's values: they stand at the fields of the schema, and one walk checks them all."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from operator import ge, gt, le, lt
from typing import Any

from aworld.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What a value may be. `valid`: the words that it is one of; empty: it is a number."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    valid: tuple[str, ...] = ()

    def fault(self, value: Any) -> str:
        """Why a value cannot be, with the mend; empty where it can."""
        if self.valid:
            return "" if value in self.valid else f"is not there; valid: {', '.join(self.valid)}"
        wanted = (
            ("at least", self.at_least, ge),
            ("above", self.above, gt),
            ("at most", self.at_most, le),
            ("below", self.below, lt),
        )
        limits = [(word, limit, holds) for word, limit, holds in wanted if limit is not None]
        if math.isfinite(value) and all(holds(value, limit) for _, limit, holds in limits):
            return ""
        return f"cannot be; it has to be {' and '.join(f'{word} {limit:.10g}' for word, limit, _ in limits)}"


POSITIVE = {"limits": Limits(above=0)}  # metadata of a field whose dict holds numbers above 0


def number(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field that holds a finite number within these limits, or None where its type allows that."""
    return field(default=default, metadata={"limits": Limits(at_least, above, at_most, below)})


def choice(default: str, *valid: str) -> Any:
    """A dataclass field that holds one of these words."""
    return field(default=default, metadata={"limits": Limits(valid=valid)})


def check(config: Any, name: str = "") -> None:
    """Check every value below `config`, a dataclass of the schema; `name` is its own full name.

    Raises:
        InputError: the first value outside its limits, by its full name.
    """
    for one in fields(config):
        full, value = f"{name}.{one.name}" if name else one.name, getattr(config, one.name)
        limits = one.metadata.get("limits")
        for key, item in value.items() if isinstance(value, dict) else ((None, value),):
            where = full if key is None else f"{full}.{key}"
            if is_dataclass(item):
                check(item, where)
            elif limits and item is not None and (fault := limits.fault(item)):
                raise InputError(f"{where}={item} {fault}")
