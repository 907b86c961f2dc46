"""What a person does with a run: `aworld plan`, `prepare`, `resume` and `cancel`; and `containers build`."""

import argparse
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld.commands import Commands, add, console, of_run
from aworld.config import places
from aworld.rundir import open_run


def add_to(commands: Commands) -> None:
    """Add these commands to those of `aworld`."""
    plan = add(commands, "plan", _plan, "what a run needs before it is submitted: memory, time, disk, GPU-hours, jobs")
    plan.add_argument(
        "words",
        nargs="+",
        metavar="RUN|KEY=VALUE",
        help="as for `aworld pipeline`; a run brings its own figures",
    )
    places.add_option(plan)
    plan.add_argument("--tokens", type=float, metavar="N", help="of an episode, on average (default: half a context)")
    plan.add_argument("--tool-seconds", type=float, metavar="S", default=0.0, help="of an episode in tools, on average")
    plan.add_argument("--preemptions", type=float, metavar="N", default=0.0, help="of a rollout worker in an hour")
    plan.add_argument(
        "--away-seconds", type=float, metavar="S", default=600.0, help="from a preemption to the worker's next episode"
    )
    prepare = add(commands, "prepare", _prepare, "make a run directory, and launch nothing")
    prepare.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as for `aworld pipeline`")
    places.add_option(prepare)
    resume = of_run(
        commands, "resume", _resume, "submit what a run has left to do; jobs that wait or run are left as they are"
    )
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as pipeline.mode=batch")
    places.add_option(resume)
    of_run(commands, "cancel", _cancel, "cancel the run's jobs; what is finished stays")
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


def _plan(arguments: argparse.Namespace) -> None:
    from aworld.launch.estimate import estimate, read
    from aworld.planning.simulate import Preemption

    config, measured = read(arguments.words, arguments.configs)
    preemption = Preemption(arguments.preemptions, arguments.away_seconds)
    estimate(config, console(), measured, arguments.tokens, arguments.tool_seconds, preemption)


def _prepare(arguments: argparse.Namespace) -> None:
    from aworld.launch.prepare import prepare

    run, _ = prepare(configuration.load(arguments.overrides, arguments.configs))
    print(run.root)


def _resume(arguments: argparse.Namespace) -> None:
    from aworld.launch.start import start

    config, _ = open_run(Path(arguments.run_dir))
    start(configuration.changed(config, arguments.overrides, arguments.configs), Console())


def _cancel(arguments: argparse.Namespace) -> None:
    from aworld.launch import jobs, local

    config, run = open_run(Path(arguments.run_dir))
    on_slurm, poll = config.site.executor == "slurm", config.site.poll_seconds
    ended = jobs.cancel(run, poll) if on_slurm else local.cancel(run)
    print(f"cancelled {', '.join(ended)}" if ended else "no job of this run waits or runs")


def _build_image(arguments: argparse.Namespace) -> None:
    from aworld.containers import sha256
    from aworld.launch.images import build

    image = arguments.output or Path(f"{arguments.image}.sif")
    build(arguments.image, arguments.values, image)
    print(f"{image}: {image.stat().st_size / 1e6:.0f} MB, sha256 {sha256(image)}")
