"""`aworld eval report|compare|export|trace|curve`: results of a policy on a benchmark."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aworld.errors import InputError
from aworld.evaluation import benchmark, figures, leaderboard, statistics, trace
from aworld.evaluation.attempt import Attempt, attempts_in
from aworld.evaluation.benchmark import Played
from aworld.publish import publish_json, publish_text
from aworld.rundir import HELD_OUT, RunDir
from aworld.trajectories.record import Record

LABELS = {"missing": "not played", "wrong_answer": "wrong", "infra_error": "infrastructure errors"}


def add_to(commands: Any) -> None:
    """Add these commands to the subparsers of a command line."""
    evaluations = commands.add_parser(
        "eval", help="results of a policy on a benchmark, or on the run's own held-out tasks"
    )
    kinds = evaluations.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text)
        command.add_argument("run_dir", metavar="RUN", type=Path)
        command.add_argument(
            "tasks", metavar="NAME", help=f"benchmark, such as gaia-validation; {HELD_OUT} for the run's own tasks"
        )
        command.add_argument("policy", metavar="POLICY", type=int, help="version of the policy")
        command.set_defaults(run=run)
        return command

    add("report", _report, "scores with intervals; writes report.json, and report.html with every episode")
    compare = add(
        "compare", _compare, "difference between two policies, paired by task; either may be a teacher's evaluation"
    )
    compare.add_argument(
        "other",
        metavar="OTHER",
        help="version of the other policy; NAME-VERSION, such as teacher-0, if it was played under another name",
    )
    compare.add_argument(
        "--with", dest="other_run", metavar="RUN", type=Path, help="run directory of OTHER (default: RUN)"
    )
    export = add("export", _export, "write the JSONL file for GAIA's leaderboard")
    export.add_argument("--output", type=Path, required=True, metavar="FILE")
    of_task = add("trace", _trace, "timeline of a task's attempts, for Perfetto or chrome://tracing")
    of_task.add_argument("task", metavar="TASK", help="its id")
    of_task.add_argument("--output", type=Path, required=True, metavar="FILE")
    curve = add("curve", _curve, "plot pass@k against k (SVG)")
    curve.add_argument("--output", type=Path, required=True, metavar="FILE")


def _played(arguments: argparse.Namespace) -> Played[Attempt]:
    return benchmark.played(RunDir(arguments.run_dir), arguments.tasks, arguments.policy)


def _unfinished(played: Played[Record], run: RunDir, name: str, version: int) -> str:
    """One line where attempts are left to play; empty where none is."""
    if not played.missing:
        return ""
    asked = len(played.tasks) * played.attempts
    return (
        f"{name}-{version} of {run.root} is not finished: {played.missing} of {asked} attempts are not played; go on "
        f"with: {benchmark.command(run, name, version)}"
    )


def _warn(played: Played[Record], arguments: argparse.Namespace) -> None:
    if line := _unfinished(played, RunDir(arguments.run_dir), arguments.tasks, arguments.policy):
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]warning:[/] {escape(line)}")


def _report(arguments: argparse.Namespace) -> None:
    from aworld.evaluation import evaluation_page  # matplotlib takes its time

    run, name, version = RunDir(arguments.run_dir), arguments.tasks, arguments.policy
    played, found = evaluation_page.publish(run, name, version)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{name}-{version}: {found['n_asked']} tasks × {found['attempts']}, {found['model']}", markup=False)
    if found["measure"]:
        _print_scores(found, console)
    else:
        console.print(statistics.headline(played.tasks, played.episodes, played.attempts))
    if found["last_turn"]:
        console.print(f"{found['last_turn']} answers came in the last turn, after a limit was reached")
    console.print(run.evaluation(name, version) / "report.html")
    _warn(played, arguments)


def _print_scores(found: dict[str, Any], console: Console) -> None:
    table = Table()
    for name in ("", found["measure"], "95 % interval", "tasks"):
        table.add_column(name, justify="right" if name else "left")
    for name, part in [("all", found), *((f"level {n}", part) for n, part in found["by_level"].items())]:
        low, high = part["ci95"]
        table.add_row(name, f"{part['mean_reward']:.1%}", f"{low:.1%} to {high:.1%}", str(part["n_tasks"]))
    console.print(table)
    if found["measure"] != statistics.PASS_AT_1:
        console.print(f"pass@1 {found['pass_at_1']:.1%}: attempts with reward 1")
    if found["attempts"] > 1:
        last = found["attempts"]
        console.print(f"pass@{last} {found['pass_at_k'][-1]:.1%}, majority vote {found['majority']:.1%}")
    if found["failures"]:
        named = (f"{n} {LABELS.get(kind, kind)}" for kind, n in found["failures"].items())
        console.print("attempts without reward: " + ", ".join(named))
    if found["n_withheld"]:
        console.print(
            f"not scored: {found['n_withheld']} of {found['n_asked']} tasks, as their gold answers are withheld"
        )


def _compare(arguments: argparse.Namespace) -> None:
    name, _, version = arguments.other.rpartition("-")
    if not version.isdigit():
        raise InputError(f"'{arguments.other}' names no policy; write its version, or NAME-VERSION, such as teacher-0")
    sides = (
        (RunDir(arguments.run_dir), arguments.tasks, arguments.policy),
        (RunDir(arguments.other_run or arguments.run_dir), name or arguments.tasks, int(version)),
    )
    one, other = (benchmark.outcomes(*side) for side in sides)
    for played, side in zip((one, other), sides, strict=True):
        if line := _unfinished(played, *side):
            raise InputError(line)
    found = figures.compare(one, other)
    low, high = found["ci95"]
    print(
        f"{100 * found['mean']:+.1f} points of {found['measure']}, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}; {found['better']} tasks better, {found['worse']} worse, of {found['n_tasks']}"
    )


def _export(arguments: argparse.Namespace) -> None:
    played = _played(arguments)
    answered = leaderboard.export(played, arguments.output)
    print(f"{arguments.output}: {len(played.tasks)} tasks, {answered} with an answer")
    _warn(played, arguments)


def _trace(arguments: argparse.Namespace) -> None:
    run = RunDir(arguments.run_dir)
    benchmark.read(run, arguments.tasks)  # refuses a name that is none
    attempts = attempts_in(benchmark.journals(run, arguments.tasks, arguments.policy), arguments.task)
    if not attempts:
        raise InputError(f"{arguments.tasks}: policy {arguments.policy} has not played a task '{arguments.task}'")
    publish_json(arguments.output, trace.chrome([attempt.read() for attempt in attempts]))
    print(f"{arguments.output}: {len(attempts)} attempts")


def _curve(arguments: argparse.Namespace) -> None:
    from aworld.evaluation import plots  # matplotlib takes its time

    played = _played(arguments)
    found = figures.figures(played)
    if not found["measure"]:
        raise InputError(
            f"{arguments.tasks} has no curve: the gold answers of its {found['n_asked']} tasks are not here"
        )
    publish_text(arguments.output, plots.curve(found["pass_at_k"]))
    print(arguments.output)
    _warn(played, arguments)
