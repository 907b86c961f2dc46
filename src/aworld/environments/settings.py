"""Checks of an environment's settings before anything is started."""

from collections.abc import Iterable
from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.tasks.task import Task
from aworld.tools import SERVERS

REMEMBERS = "python_session"
IN_ANY_IMAGE = ("terminal", "files")  # servers that need Python's own modules alone


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


def check_images(config: schema.Environment, tasks: Iterable[Task]) -> None:
    """`check_for_images`, where one of the tasks brings an image."""
    if any(task.container for task in tasks):
        check_for_images(config)


def check_for_images(config: schema.Environment) -> None:
    """Check the settings of tasks that bring an image of their own.

    Raises:
        InputError: agents would have no terminal there, or a server of the user's own is to run there.
    """
    if "terminal" not in config.servers:
        raise InputError(
            "the tasks bring images, where agents work by a terminal; set 'environment.servers=[terminal,files]'"
        )
    if any(server.command and not server.outside for server in config.mcp.values()):
        raise InputError("environment.mcp: no server of yours runs in the images of tasks; set outside=true, or a url")
