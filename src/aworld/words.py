"""The words of a site that are passed on as they are written: its variables, and its further options of sbatch.

YAML reads FALSE, 010 and 4:00:00 as False, 8 and 14400. A program that gets the variable, and sbatch, would not.
"""

import re
from typing import Any

import yaml

PASSED_ON = ("environment", "sbatch")


class _AsWritten(yaml.SafeLoader):
    """Every plain word is a string; << merges mappings as ever."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))]}  # noqa: RUF012


def as_written(text: str) -> Any:
    """What a YAML document holds, in mappings and lists of strings.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    return yaml.load(text, Loader=_AsWritten)


def keep_words(site: Any, words: Any) -> Any:
    """The values of a site, with those of `words`, the same read by `as_written`, where they are passed on."""
    if not isinstance(site, dict) or not isinstance(words, dict):
        return site
    return site | {key: words[key] for key in PASSED_ON if isinstance(words.get(key), dict)}
