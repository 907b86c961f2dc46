"""Looks at a run: `aworld status`, `watch`, `logs` and `show`."""

import argparse
from pathlib import Path

from rich.console import Console

from aworld.commands import Commands, console, of_run
from aworld.rundir import open_run


def add_to(commands: Commands) -> None:
    """Add these commands to those of `aworld`."""
    status = of_run(commands, "status", _status, "how far each stage is, by the run's files and what Slurm says")
    status.add_argument("--all", action="store_true", help="a row for each finished round, and each job")
    text = "the run on a full screen until it ends, or q; elsewhere a line for each change"
    watch = of_run(commands, "watch", _watch, text)
    watch.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="between two looks at its files (default: the site's poll_seconds, at least 2); Slurm is asked every "
        "queue_seconds",
    )
    logs = of_run(commands, "logs", _logs, "the end of a stage's logs; without a stage: which there are")
    logs.add_argument("stage", nargs="?", metavar="STAGE", help="such as train, or rollout-0; rollout: all of them")
    logs.add_argument("--lines", type=int, default=20, help="of each log (default: 20)")
    show = of_run(commands, "show", _show, "print an episode turn by turn")
    show.add_argument(
        "episode", metavar="EPISODE", nargs="?", help="ROUND/TASK/ATTEMPT or, as held-out-0, NAME-VERSION/…"
    )


def _status(arguments: argparse.Namespace) -> int:
    from aworld.watch.overview import show_status

    config, run = open_run(Path(arguments.run_dir))
    return show_status(config, run, console(), is_whole=arguments.all)


def _watch(arguments: argparse.Namespace) -> int:
    from aworld.watch.watching import watch

    config, run = open_run(Path(arguments.run_dir))
    return watch(config, run, console(), arguments.every)


def _logs(arguments: argparse.Namespace) -> None:
    from aworld.watch.logs import print_logs

    _, run = open_run(Path(arguments.run_dir))
    print_logs(run, arguments.stage, arguments.lines)


def _show(arguments: argparse.Namespace) -> None:
    from aworld.watch.show import show

    _, run = open_run(Path(arguments.run_dir))
    show(run, arguments.episode, Console())
