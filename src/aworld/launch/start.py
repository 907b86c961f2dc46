"""Start a run, or go on with one, as its site wants it: submitted to Slurm, or on this machine."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aworld.config import Config, load, places, to_yaml
from aworld.environments.sandbox import choose
from aworld.errors import InputError, guarded
from aworld.launch import cold_start, dag, evaluations, local, preview
from aworld.launch.checks import check_tasks, opened
from aworld.launch.estimate import estimate
from aworld.launch.executor import command
from aworld.launch.plan import plan
from aworld.launch.prepare import check
from aworld.planning.measured import measured
from aworld.processes import end_by_interrupt
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.stages import REPORT
from aworld.watch.summary import summary


def launch_run(text: str | None, words: Sequence[str] | None = None, program: str | None = None) -> int:
    """What `aworld pipeline` does, and `jobs/pipeline.py` of a clone: `start`, or `dry_run`. Returns the exit code.

    Args:
        text: of the help.
        words: the arguments; None: those of this process.
        program: its name in the help; None: that of this process.
    """
    parser = argparse.ArgumentParser(program, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="recipe=NAME, site=NAME, or any key of the schema"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be launched and launch nothing")
    places.add_option(parser)
    arguments = parser.parse_intermixed_args(words)

    def run() -> None:
        config = load(arguments.overrides, arguments.configs)
        if arguments.dry_run:
            dry_run(config, Console())
        else:
            end_by_interrupt()
            start(config, Console())

    return guarded(run)


def start(config: Config, console: Console) -> None:
    """On Slurm returns once everything is submitted; on this machine once everything is done.

    Raises:
        InputError: there is nothing to train.
        AWorldError: as `dag.launch` and `local.pipeline` do.
    """
    _check_trains(config)
    if config.site.executor == "slurm":
        dag.launch(config, console)
    else:
        summary(local.pipeline(config, console), console)


def dry_run(config: Config, console: Console) -> None:
    """Say what would be launched and what it needs, and launch nothing.

    For Slurm the batch scripts are written, and Slurm checks them.
    """
    _check_trains(config)
    check(config)
    cold_start.greet(config)
    if config.training.cold_start.conversations and not cold_start.is_gathered(config):
        _check_conversations(config)
    run = RunDir.of(config)
    with opened(config, run.tasks) as source:
        check_tasks(config, source)
        workloads = [*schedule(config, run, source), *evaluations.workloads(config, run)]
    if config.site.executor == "local":
        console.print(to_yaml(config), markup=False, highlight=False)
        choose(config.site.sandbox, config.site.images.environment)
        left = local.stages(config, run, workloads)
        console.print(f"# would be launched on site '{config.site.name}':" if left else "# nothing is left to do")
        for stage in left:
            line = " ".join(command(stage.arguments))
            console.print(f"# {stage.name}: {line}", markup=False, highlight=False, soft_wrap=True)
        if config.pipeline.rounds:
            with console.capture() as tables:
                estimate(config, console, measured(run))
            for row in tables.get().splitlines():  # what is printed stays YAML
                console.print(f"# {row}".rstrip(), markup=False, highlight=False, soft_wrap=True)
        return
    stages = plan(config, run, workloads)
    if not stages or stages[0].kind == REPORT:
        console.print("nothing is left to do but the report")
    if said := dag.ahead(config, run, stages):
        console.print(said.replace("are submitted", "would be submitted"), highlight=False, soft_wrap=True)
    if config.pipeline.rounds:
        estimate(config, console, measured(run))
        console.print()
    folder = run.root / "dry-run"
    written = preview.write(config, stages, folder)
    console.print(f"wrote {folder / 'run.yaml'} and {len(written)} batch scripts beside it", highlight=False)
    for said in preview.check(config, stages, folder):
        console.print(said, highlight=False, soft_wrap=True)


def _check_conversations(config: Config) -> None:
    from aworld.agents.chat import ChatFormat  # importing transformers takes a second
    from aworld.rollout import transcripts

    path, agent = config.model.path, config.agent
    chat = ChatFormat(Path(path), agent.answer_form, agent.enable_thinking) if path else None  # else it is not made yet
    for _ in transcripts.checked(config, chat):
        pass


def _check_trains(config: Config) -> None:
    if not config.trains:
        raise InputError("pipeline.rounds=0: nothing is trained; evaluate the policy with aworld launch evaluate")
