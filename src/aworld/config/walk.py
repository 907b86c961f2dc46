"""Every setting of a configuration, by its full name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: its full name, such as `environment.mcp.NAME.command`. A dict of plain values is one setting.
        metadata: of its field; `changes` is there in any case, its own or that of its section.
    """

    name: str
    value: Any
    metadata: Mapping[str, Any]


def every_setting(config: Any, name: str = "", changes: str = "never") -> Iterator[Setting]:
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
            yield Setting(full, value, {**one.metadata, "changes": when})
