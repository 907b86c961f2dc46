"""Checks of an environment's settings before anything is started."""

from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.tools import SERVERS

REMEMBERS = "python_session"


def check(config: schema.Environment, corpus: Path | None) -> None:
    """Check the settings of an environment.

    Args:
        corpus: what the tasks bring for the search server.

    Raises:
        InputError: a server is not there, or lacks what it needs; `reuse` would show one episode to the next.
    """
    for key, names in (("servers", config.servers), ("web", config.web)):
        for name in names:
            if name not in SERVERS:
                raise InputError(f"environment.{key}: no tool server '{name}'; valid: {', '.join(SERVERS)}")
    if config.reuse == "reset" and (config.mcp or REMEMBERS in config.servers):
        which = (
            f"environment.servers has {REMEMBERS}" if REMEMBERS in config.servers else "environment.mcp has a server"
        )
        raise InputError(
            f"{which}, which may remember: environment.reuse=reset would show one episode to the next; "
            "set environment.reuse=never"
        )
    corpus = Path(config.corpus) if config.corpus else corpus
    if "search" in config.servers and (corpus is None or not corpus.is_file()):
        why = f"{corpus} is not there" if corpus else "the tasks bring no corpus"
        raise InputError(
            f"environment.servers has search, but {why}; make an index with aworld corpus and set "
            "environment.corpus, or leave search out"
        )
