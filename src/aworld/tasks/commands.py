"""`aworld prefetch`: a copy of a benchmark that jobs read offline."""

import argparse
from pathlib import Path

from aworld.commands import Commands, add


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    prefetch = add(
        commands, "prefetch", _prefetch, "fetch a benchmark that jobs then read offline, with your own token"
    )
    prefetch.add_argument("benchmark", choices=["gaia"])
    prefetch.add_argument("folder", metavar="FOLDER", type=Path, help="where the copy goes")


def _prefetch(arguments: argparse.Namespace) -> None:
    from aworld.tasks.prefetch import prefetch_gaia

    for split, count in prefetch_gaia(arguments.folder).items():
        print(f"{arguments.folder}: {split}, {count} tasks")
