"""The values of a site that are passed on as they are written: its variables, and its further options of sbatch.

YAML reads FALSE, 010 and 4:00:00 as False, 8 and 14400. A program that gets the variable, and sbatch, would not.
"""

import re
from typing import Any

import yaml

PASSED_ON = ("environment", "sbatch")


class _Strings(yaml.SafeLoader):
    """Reads every plain scalar as a string; << merges mappings as ever."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))]}  # noqa: RUF012


def as_written(text: str) -> Any:
    """The mappings and lists of a YAML document, with every scalar as a string.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    return yaml.load(text, Loader=_Strings)


def with_verbatim(site: Any, written: Any) -> Any:
    """The values of a site. Those that are passed on are taken from `written`, the same text read by `as_written`."""
    if not isinstance(site, dict) or not isinstance(written, dict):
        return site
    return site | {key: written[key] for key in PASSED_ON if isinstance(written.get(key), dict)}
