"""Launch one stage of an existing run from the login node: `aworld launch STAGE`, and `jobs/STAGE.py` of a clone."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld import plugins
from aworld.config import Change, Config, places
from aworld.errors import InputError, guarded
from aworld.evaluation import benchmark
from aworld.launch import dag, executor, preview, where
from aworld.launch.checks import check_evaluation, check_held_out, check_unseen, opened
from aworld.launch.local_stage import play
from aworld.launch.prepare import check, provenance
from aworld.launch.script import scripts
from aworld.processes import end_by_interrupt
from aworld.publish import is_complete
from aworld.rollout.units import reopen_failed
from aworld.rollout.workload import Workload, evaluation_workload, round_workload
from aworld.rundir import HELD_OUT, RunDir, forget_removed
from aworld.stages import EVALUATE, Kind, Stage
from aworld.tasks import make_source
from aworld.watch.status import on_benchmark


def launch_stage(kind: Kind, text: str | None, words: Sequence[str] | None = None, program: str | None = None) -> int:
    """Submit the stage; on a local site wait for it. Returns the exit code.

    Args:
        text: of the help.
        words: the arguments; None: those of this process.
        program: its name in the help; None: that of this process.
    """
    parser = argparse.ArgumentParser(program, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as site.train.minutes=30")
    parser.add_argument(kind.option, dest="number", type=int, required=True)
    parser.add_argument("--dry-run", action="store_true", help="print what would be launched, and launch nothing")
    places.add_option(parser)
    if kind == EVALUATE:
        parser.add_argument("--name", help="of the benchmark's folder in evals/ (default: that of its tasks)")
        parser.add_argument("--begin-only", action="store_true", help="fix the benchmark's settings, launch nothing")
    arguments = parser.parse_intermixed_args(words)
    end_by_interrupt()
    return guarded(lambda: _evaluate(arguments) if kind == EVALUATE else _train_or_play(kind, arguments))


def _train_or_play(kind: Kind, arguments: argparse.Namespace) -> None:
    run = RunDir(arguments.run)
    config = _own_configuration(kind, run, arguments.overrides, arguments.configs)
    check(config)
    _launch(config, Stage.of(kind, config, run, arguments.number), arguments.dry_run)


def _evaluate(arguments: argparse.Namespace) -> None:
    run, version = RunDir(arguments.run), arguments.number
    overrides, configs = arguments.overrides, arguments.configs
    name = arguments.name or _named_tasks(overrides)
    if name:
        config = _benchmark_configuration(run, name, overrides, configs)
    else:
        config = _own_configuration(EVALUATE, run, overrides, configs)
    if not is_complete(run.policy(version)):
        there = ", ".join(str(version) for version in run.policies()) or "none"
        raise InputError(f"{run.root} has no policy {version} yet; there are: {there}")
    config.runs, config.name = str(run.root.resolve().parent), run.root.resolve().name
    where.make_absolute(config)
    if name:
        check_unseen(configuration.read(run.config).tasks, config.tasks)
    check_evaluation(config, run.benchmark(name).parent / plugins.FOLDER if name else None)
    _check_model(config, run, version, overrides)
    where.check_signal(config.site)
    if not arguments.dry_run:
        forget_removed(run)
    if name and not arguments.dry_run:
        made_by, check_tasks = partial(provenance, config), partial(check_held_out, config)
        benchmark.begin(config, run, name, version, _named_tasks(overrides), made_by, check_tasks)
    else:
        with opened(config, run.benchmark(name).parent / "tasks" if name else run.tasks) as source:
            check_held_out(config, source)
    stage = Stage.of(EVALUATE, config, run, version, name)
    if not arguments.dry_run:
        run.evaluation(name or HELD_OUT, version).mkdir(parents=True, exist_ok=True)  # so that the policy stays
        reopen_failed(_workload(config, stage))
    if not arguments.begin_only:
        _launch(config, stage, arguments.dry_run)


def _launch(config: Config, stage: Stage, is_dry: bool) -> None:
    if config.site.executor == "slurm":
        if is_dry:
            print(*scripts(config.site, stage, []), sep="\n")
            for line in preview.check(config, [stage], stage.run.root):
                Console(stderr=True).print(line, highlight=False, soft_wrap=True)
            return
        (launched,) = dag.submit(config, stage.run, [stage])
        Console().print(f"{stage.name}: {', '.join(launched.new or launched.kept)}", highlight=False)
    elif is_dry:
        for process in executor.processes(stage):
            print(process.name, *executor.command(process.arguments))
    else:
        play(config, stage, _workload(config, stage), Console())


def _own_configuration(kind: Kind, run: RunDir, overrides: list[str], configs: Path | None) -> Config:
    """The run's configuration.

    Raises:
        InputError: an override would not reach the job.
    """
    own = configuration.read(run.config)
    config = configuration.changed(own, overrides, configs)
    for key, change in configuration.differences(own, config).items():
        if not _takes_effect(kind, config, key, change):
            other = "; to evaluate otherwise, give it a --name" if kind == EVALUATE else ""
            raise InputError(
                f"{key}={change.now} does not reach the job, which goes by {run.config}: {key}={change.was}; "
                f"leave it out{other}"
            )
    return config


def _benchmark_configuration(run: RunDir, name: str, overrides: list[str], configs: Path | None) -> Config:
    """The configuration of a benchmark: as it was begun, or the run's own; with the overrides."""
    where.check_name(name, "--name")
    if name == HELD_OUT:
        raise InputError(f"--name {name} is the run's own evaluation; give it another")
    if run.benchmark(name).exists() and not benchmark.is_another(run, name, _named_tasks(overrides)):
        others = [override for override in overrides if not override.startswith("tasks=")]  # `begin` looks at it
        return configuration.changed(configuration.read(run.benchmark(name)), others, configs)
    return configuration.changed(configuration.read(run.config), overrides, configs)


def _check_model(config: Config, run: RunDir, version: int, overrides: list[str]) -> None:
    """
    Raises:
        InputError: a setting of the agent's does not reach the model that is evaluated.
    """
    agent, evaluation = config.agent, config.evaluation
    if evaluation.temperature is not None and any(override.startswith("agent.temperature=") for override in overrides):
        raise InputError(
            f"agent.temperature does nothing here: evaluation.temperature={evaluation.temperature:g} counts; set that"
        )
    if evaluation.endpoint.model and (agent.top_k != -1 or not agent.enable_thinking):
        raise InputError(
            f"agent.top_k={agent.top_k} and agent.enable_thinking={str(agent.enable_thinking).lower()} do not reach an "
            "endpoint: leave them at -1 and true, and say in evaluation.endpoint.extra what its requests need, such as "
            "{top_k: 20, chat_template_kwargs: {enable_thinking: false}}"
        )
    if not agent.enable_thinking:
        from aworld.agents.chat import ChatFormat  # importing transformers takes a second

        ChatFormat(run.policy(version), agent.answer_form, agent.enable_thinking)


def _takes_effect(kind: Kind, config: Config, key: str, change: Change) -> bool:
    """Whether the launcher of a stage reads the setting. The job itself reads the run's own settings."""
    if config.site.executor == "local" and kind.has_ranks and key.startswith(f"site.{kind.name}."):
        return False  # without Slurm the stage starts its own ranks
    return change.at_each_launch


def _named_tasks(overrides: list[str]) -> str:
    """The NAME of `tasks=NAME`, or of a file; empty where there is none."""
    named = [override.removeprefix("tasks=") for override in overrides if override.startswith("tasks=")]
    return places.short(named[-1]) if named else ""


def _workload(config: Config, stage: Stage) -> Workload:
    """What the stage plays; of a training or a gathering what its round has played."""
    assert stage.number is not None  # a single stage is always one of a round, or of a policy
    if stage.benchmark:
        return on_benchmark(stage.run, stage.benchmark, stage.number)
    source = make_source(config.tasks, stage.run.tasks)
    workload = evaluation_workload if stage.kind == EVALUATE else round_workload
    return workload(config, stage.run, source, stage.number)
