"""How a field of the schema is declared: its default, its limits, and when it may change."""

from dataclasses import field
from typing import Any, Literal

from aworld.config.bounds import Limits

LARGEST_SEED = 2**32 - 1  # of numpy's generators; torch's take more

# When a setting may change after a run, or a benchmark, has begun. A field that does not say takes it from its section.
When = Literal[
    "never",  # with another value it is another run, or another benchmark
    "in a benchmark",  # never in a run; at any time in a benchmark, since the run's policies are made by then
    "upwards",  # a higher number asks for more: what is there stays
    "between rounds",  # in a run while no round is under way; at any time in a benchmark
    "any time",  # no result depends on it
    "each launch",  # the same; and a launch of one stage may override it, since the launcher reads it, not the job
]


def setting(default: Any, *, changes: When | None = None) -> Any:
    """A dataclass field of the schema.

    Args:
        default: the value, or the class that makes it: a section, `list`, `dict`.
        changes: None: as its section says.
    """
    return _field(default, {"changes": changes})


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
    return _field(default, {"limits": Limits(at_least, above, at_most, below), "changes": changes})


def choice(default: str, *valid: str, changes: When | None = None) -> Any:
    """A field that holds one of the `valid` words."""
    return _field(default, {"limits": Limits(valid=valid), "changes": changes})


def _field(default: Any, metadata: dict[str, Any]) -> Any:
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
