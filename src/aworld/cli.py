"""`aworld …`: the stages as commands, and what a person asks of a run.

Exit codes: 2 bad input, 3 the work came out wrong, 4 the machine failed, 130 interrupted.
"""

import argparse
import asyncio
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import guarded
from aworld.processes import sole_holder
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.tasks.task import TaskSource

if TYPE_CHECKING:
    from aworld.launch.status import StageStatus


def main(argv: list[str] | None = None) -> int:
    """Run one command; a failure that has a mend is one line on stderr."""
    arguments = _parser().parse_args(argv)
    return guarded(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aworld", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("run_dir", metavar="RUN", help="the run directory, such as runs/demo")
        command.set_defaults(run=run)
        return command

    rollout = add("rollout", _rollout, "play this worker's share of a round, or of the whole run (stage)")
    rollout.add_argument("--worker", type=int, default=0, help="number of this worker, from 0")
    rollout.add_argument("--round", type=int, help="only this round (default: everything the run has to play)")
    gather = add("gather", _gather, "gather a round's journals into trajectories.h5 with MPI (stage)")
    gather.add_argument("--round", type=int, required=True)
    train = add("train", _train, "train on a round, or on every round of the run (stage)")
    train.add_argument("--round", type=int)
    evaluate = add("evaluate", _evaluate, "play this worker's share of an evaluation on the held-out tasks (stage)")
    evaluate.add_argument("--worker", type=int, default=0)
    evaluate.add_argument("--policy", type=int, required=True, help="version of the policy, 0 for the first")
    add("status", _status, "how far each stage is")
    add("report", _report, "write report.html and report.json from what is there")
    show = add("show", _show, "print an episode turn by turn")
    show.add_argument("episode", metavar="EPISODE", nargs="?", help="ROUND/TASK/ATTEMPT or eval-VERSION/TASK/ATTEMPT")
    containers = commands.add_parser("containers", help="build the images that a site names")
    build = containers.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "build", help="build one, as this user"
    )
    build.add_argument("image", metavar="environment|vllm|megatron")
    build.add_argument(
        "values", metavar="NAME=VALUE", nargs="*", help="what the definition leaves open: docs/containers.md"
    )
    build.add_argument("--output", type=Path, metavar="FILE", help="default: the image's name with .sif")
    build.set_defaults(run=_build_image)
    return parser


def _open(arguments: argparse.Namespace) -> tuple[Config, RunDir, TaskSource]:
    """The configuration, run directory and task source of an existing run."""
    run = RunDir(Path(arguments.run_dir))
    config = configuration.read(run.config)
    return config, run, make_source(config.tasks, run.tasks)


def _rollout(arguments: argparse.Namespace) -> None:
    from aworld.rollout.stage import rollout
    from aworld.rollout.workload import round_workload, schedule

    config, run, source = _open(arguments)
    if arguments.round is None:
        workloads = schedule(config, run, source)
    else:
        workloads = [round_workload(config, run, source, arguments.round)]
    with sole_holder(run.root / "locks" / f"rollout-{arguments.worker}.lock"):
        asyncio.run(rollout(config, run, workloads, source, arguments.worker))


def _evaluate(arguments: argparse.Namespace) -> None:
    from aworld.rollout.stage import rollout
    from aworld.rollout.workload import evaluation_workload

    config, run, source = _open(arguments)
    with sole_holder(run.root / "locks" / f"rollout-{arguments.worker}.lock"):
        workload = evaluation_workload(config, run, source, arguments.policy)
        asyncio.run(rollout(config, run, [workload], source, arguments.worker))


def _gather(arguments: argparse.Namespace) -> None:
    from aworld.trajectories.gather import run_gather

    config, run, _ = _open(arguments)
    run_gather(config, run, arguments.round)


def _train(arguments: argparse.Namespace) -> int:
    from aworld.training.launch import launch

    config, run, _ = _open(arguments)
    with sole_holder(run.root / "locks" / "train.lock"):
        return launch(config, run, arguments.round)


def _status(arguments: argparse.Namespace) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from aworld.launch.status import status

    config, run, _ = _open(arguments)
    table = Table("", "rollout", "gather", "training", title=f"{run.root}", box=SIMPLE)
    for part, stages in groupby(status(config, run), lambda stage: stage.part):
        table.add_row(part, *(_cell(stage) for stage in stages))
    Console().print(table)


def _cell(stage: "StageStatus") -> str:
    if stage.finished:
        return f"[green]finished[/] {stage.total if stage.total > 1 else ''} {stage.note}"
    return f"[yellow]{stage.done}/{stage.total}[/] {stage.note}" if stage.done else "[dim]waiting[/]"


def _report(arguments: argparse.Namespace) -> None:
    from aworld.evaluation.report import report

    config, run, _ = _open(arguments)
    report(config, run)
    print(run.root / "report.html")


def _build_image(arguments: argparse.Namespace) -> None:
    from aworld.containers import sha256
    from aworld.launch.images import build

    image = arguments.output or Path(f"{arguments.image}.sif")
    build(arguments.image, arguments.values, image)
    print(f"{image}: {image.stat().st_size / 1e6:.0f} MB, sha256 {sha256(image)}")


def _show(arguments: argparse.Namespace) -> None:
    from aworld.launch.show import show

    _, run, _ = _open(arguments)
    show(run, arguments.episode, Console())
