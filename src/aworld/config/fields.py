"""How a field of the schema is declared: its default, its limits, and when it may change."""

import math
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any, Literal

LARGEST_SEED = 2**32 - 1  # of numpy's generators; torch's take more

# When a setting may change after a run, or a benchmark, has begun. A field that does not say takes it from its section.
When = Literal[
    "never",  # with another value it is another run, or another benchmark
    "in a benchmark",  # never in a run; at any time in a benchmark, whose policy is made
    "upwards",  # a higher number asks for more; what is there stays
    "between rounds",  # in a run while no round is under way; at any time in a benchmark
    "any time",  # no result depends on it
    "each launch",  # the same; and the launch of one stage may override it
]


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


def setting(default: Any, *, changes: When | None = None, limits: Limits | None = None) -> Any:
    """A dataclass field of the schema.

    Args:
        default: the value, or the class that makes it: a section, `list`, `dict`.
        changes: None: as its section says.
    """
    metadata = {"changes": changes, "limits": limits}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def number(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    changes: When | None = None,
) -> Any:
    """A field that holds a finite number within these limits, or None where its type allows that.

    With `default=dict` it holds such numbers by name.
    """
    return setting(default, changes=changes, limits=Limits(at_least, above, at_most, below))


def choice(default: str, *valid: str, changes: When | None = None) -> Any:
    """A field that holds one of the `valid` words."""
    return setting(default, changes=changes, limits=Limits(valid=valid))
