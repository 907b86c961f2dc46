"""Every setting of a configuration, by its full name, with what its field says of it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from aworld.config.fields import Limits, When


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: its full name, such as `environment.mcp.NAME.command`. A dict of plain values is one setting.
        limits: of the value, or of each value in a dict; None: it has none.
        changes: when it may change, by its field or else by the section that the field is in.
    """

    name: str
    value: Any
    limits: Limits | None
    changes: When


def every_setting(config: Any, name: str = "", changes: When = "never") -> Iterator[Setting]:
    """The settings of `config`, a dataclass of the schema called `name`, in the order of its fields."""
    for one in fields(config):
        full, value = f"{name}.{one.name}" if name else one.name, getattr(config, one.name)
        when = one.metadata.get("changes") or changes
        if is_dataclass(value):
            yield from every_setting(value, full, when)
        elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
            for key, section in value.items():
                yield from every_setting(section, f"{full}.{key}", when)
        else:
            yield Setting(full, value, one.metadata.get("limits"), when)
