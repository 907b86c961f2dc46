"""How two configurations differ, and which differences a run or a benchmark that has begun may take over."""

from dataclasses import dataclass, fields
from typing import Any

from aworld.config.fields import When
from aworld.config.schema import Config
from aworld.config.walk import every_setting


@dataclass(frozen=True)
class Change:
    """A setting that differs.

    Attributes:
        was: its value before; None where it was not there.
        now: its value now; None where it is gone.
        when: when it may change.
    """

    was: Any
    now: Any
    when: When

    @property
    def at_any_time(self) -> bool:
        """Whether a run may take it over at any time."""
        return self.when in ("any time", "each launch")

    @property
    def between_rounds(self) -> bool:
        """Whether a run may take it over while no round is under way."""
        return self.when == "between rounds"

    @property
    def asks_for_more(self) -> bool:
        """Whether it only adds to what is there."""
        return self.when == "upwards" and self.now > self.was

    @property
    def in_a_benchmark(self) -> bool:
        """Whether a benchmark that was played may take it over."""
        return self.asks_for_more or self.when not in ("never", "upwards")

    @property
    def at_each_launch(self) -> bool:
        """Whether the launch of one stage may take it over, while the run keeps its own value."""
        return self.when == "each launch"


def differences(before: Config, now: Config) -> dict[str, Change]:
    """The settings that differ, by their full names."""
    old, new = ({one.name: one for one in every_setting(config)} for config in (before, now))
    found = {}
    for name, one in (old | new).items():
        was, wanted = (side[name].value if name in side else None for side in (old, new))
        if was != wanted:
            found[name] = Change(was, wanted, one.changes)
    return found


def decisive_sections() -> list[str]:
    """The sections of a configuration that the figures of an evaluation depend on, beside the policy."""
    return [one.name for one in fields(Config) if one.metadata.get("changes") in (None, "never")]
