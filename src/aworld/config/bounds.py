"""The limits of a configuration's values. They stand at the fields of the schema, and `check` checks them all."""

import math
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from aworld.config.walk import every_setting
from aworld.errors import InputError


@dataclass(frozen=True)
class Limits:
    """The values that a setting may have: the `valid` words; without any, the finite numbers within the limits."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    valid: tuple[str, ...] = ()

    def fault(self, value: Any) -> str:
        """Why a value is refused, with the mend; empty for a value within the limits."""
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


def check(config: Any) -> None:
    """Check every value of `config`, a dataclass of the schema.

    Raises:
        InputError: the first value outside its limits, by its full name.
    """
    for one in every_setting(config):
        if limits := one.metadata.get("limits"):
            by_name = isinstance(one.value, dict)
            values = (
                {f"{one.name}.{key}": value for key, value in one.value.items()} if by_name else {one.name: one.value}
            )
            for name, value in values.items():
                if value is not None and (fault := limits.fault(value)):
                    raise InputError(f"{name}={value} {fault}")
