"""Looks at a run: `aworld status`, `watch`, `logs` and `show`."""

import argparse
import re
import threading
from pathlib import Path

from rich.console import Console

from aworld.commands import Commands, console, of_run
from aworld.errors import InputError
from aworld.rundir import open_run

STATUSES = ("answered", "no_answer", "max_turns", "max_tokens", "repeated", "timeout", "infra_error")
SHOW_EXAMPLES = """examples:
  aworld show runs/demo                                  the newest round or evaluation
  aworld show runs/demo --evaluation held-out 3 --wrong --level 2
  aworld show runs/demo --round 7 --tool-error --sort seconds
  aworld show runs/demo --round 7 --status timeout --limit 0
  aworld show runs/demo --wrong --text '(?i)traceback'   whatever the case of the letters
  aworld show runs/demo 7/train-00123/4                  one episode, turn by turn
"""


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
    _add_show(commands)


def _add_show(commands: Commands) -> None:
    text = "list the episodes of a round or an evaluation that fit a search, or print one turn by turn"
    show = of_run(commands, "show", _show, text)
    show.formatter_class = argparse.RawDescriptionHelpFormatter
    show.epilog = SHOW_EXAMPLES
    show.add_argument(
        "episode",
        metavar="EPISODE",
        nargs="?",
        help="ROUND/TASK/ATTEMPT or NAME-VERSION/TASK/ATTEMPT, as the list has it; without it: the list",
    )
    place = show.add_mutually_exclusive_group()
    place.add_argument("--round", type=int, metavar="N", help="list this round (default: the newest episodes)")
    place.add_argument(
        "--evaluation", nargs=2, metavar=("NAME", "VERSION"), help="list this evaluation, such as held-out 3"
    )
    show.add_argument("--wrong", action="store_true", help="with a reward below 1")
    show.add_argument("--level", type=int, metavar="N", help="of a task of this level")
    show.add_argument("--tool-error", action="store_true", help="with a tool call that returned an error")
    show.add_argument("--status", choices=STATUSES, help="that ended so")
    show.add_argument("--text", type=_pattern, metavar="REGEX", help="in the answer, in a turn, or in a tool call")
    show.add_argument("--sort", choices=("seconds", "tokens", "reward"), help="the most first; of reward: the lowest")
    show.add_argument("--limit", type=int, default=20, metavar="N", help="lines at most (default: 20); 0: all")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {error}") from None


def _status(arguments: argparse.Namespace) -> int:
    from aworld.watch.overview import show_status

    config, run = open_run(Path(arguments.run_dir))
    return show_status(config, run, console(), is_whole=arguments.all)


def _watch(arguments: argparse.Namespace) -> int:
    from aworld.watch.watching import watch

    if arguments.every is not None and not 0 < arguments.every <= threading.TIMEOUT_MAX:
        raise InputError(f"--every {arguments.every:g} is no time between two looks; say some seconds")
    config, run = open_run(Path(arguments.run_dir))
    return watch(config, run, console(), arguments.every)


def _logs(arguments: argparse.Namespace) -> None:
    from aworld.watch.logs import print_logs

    _, run = open_run(Path(arguments.run_dir))
    print_logs(run, arguments.stage, arguments.lines)


def _show(arguments: argparse.Namespace) -> None:
    from aworld.watch.listing import show_list
    from aworld.watch.search import Search
    from aworld.watch.show import show

    _, run = open_run(Path(arguments.run_dir))
    wanted = Search(
        arguments.wrong,
        arguments.level,
        arguments.tool_error,
        arguments.status or "",
        arguments.text,
        arguments.sort or "",
    )
    place = "-".join(arguments.evaluation) if arguments.evaluation else None
    if arguments.round is not None:
        place = str(arguments.round)
    if arguments.limit < 0:
        raise InputError(f"--limit {arguments.limit} is no number of lines; 0 shows all")
    if arguments.episode is None:
        show_list(run, place, wanted, arguments.limit, console())
    elif place or wanted != Search():
        raise InputError(f"{arguments.episode} is one episode; leave it out to search, or leave out the search")
    else:
        show(run, arguments.episode, Console())
