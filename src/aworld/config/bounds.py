"""The check of a configuration's values against the limits that stand at the fields of the schema."""

from typing import Any

from aworld.config.walk import every_setting
from aworld.errors import InputError


def check(config: Any) -> None:
    """Check every value of `config`, a dataclass of the schema.

    Raises:
        InputError: the first value outside its limits, by its full name.
    """
    for one in every_setting(config):
        values = {one.name: one.value}
        if isinstance(one.value, dict):
            values = {f"{one.name}.{key}": value for key, value in one.value.items()}
        for name, value in values.items():
            if one.limits and value is not None and (fault := one.limits.fault(value)):
                raise InputError(f"{name}={value} {fault}")
