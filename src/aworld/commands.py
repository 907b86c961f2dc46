"""What the rooms' command files share: how a command is added, and the console that it prints to."""

import argparse
import os
from collections.abc import Callable

from rich.console import Console

from aworld import config as configuration
from aworld.config import Config

Commands = argparse._SubParsersAction
Run = Callable[[argparse.Namespace], int | None]


def add(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """A new command; `run` does it, and returns its exit code, None for 0."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def of_run(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """A new command of a run: its first argument is the run directory, `run_dir`."""
    command = add(commands, name, run, text)
    command.add_argument("run_dir", metavar="RUN", help="the run directory, such as runs/demo")
    return command


def of_a_site(arguments: argparse.Namespace) -> Config:
    """The configuration of a command for which any recipe will do."""
    has_recipe = any(override.startswith("recipe=") for override in arguments.overrides)
    overrides = [*([] if has_recipe else ["recipe=demo"]), *arguments.overrides]
    return configuration.load(overrides, arguments.configs)


def console() -> Console:
    """Tables keep to a terminal's width; in a pipe or a file nothing is wrapped."""
    found = Console()
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = 200
    return found
