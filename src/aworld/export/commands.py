"""`aworld export`: rounds and evaluations for other trainers, and for inspect's viewer."""

import argparse
from pathlib import Path

from aworld.commands import Commands, of_run

FORMATS = ("sft", "verl", "trl", "inspect")


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    text = "write rounds or evaluations for other trainers, or for inspect's viewer"
    command = of_run(commands, "export", _export, text)
    command.add_argument("--to", required=True, choices=FORMATS, help="sft: conversations as JSON lines")
    command.add_argument("--rounds", metavar="A..B", help="such as 3, 3..7 or 3..; for trainers all by default")
    command.add_argument(
        "--evaluations",
        metavar="NAME",
        nargs="*",
        help="for inspect alone, such as held-out or held-out-24; all by default",
    )
    command.add_argument(
        "--all", action="store_true", help="conversations of wrong episodes too, not of right ones alone"
    )
    command.add_argument(
        "--allow-benchmark", action="store_true", help="also where the rounds play a benchmark; the files stay with you"
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="(default: RUN/export/FORMAT)")


def _export(arguments: argparse.Namespace) -> None:
    from aworld.export.run import Wanted, export  # transformers takes its time

    wanted = Wanted(arguments.to, arguments.rounds, arguments.evaluations, arguments.all, arguments.allow_benchmark)
    export(Path(arguments.run_dir), wanted, arguments.output)
