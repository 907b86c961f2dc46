"""`aworld plan`, and the same tables in a dry run."""

from dataclasses import replace
from math import inf
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld import tasks
from aworld.config import Config
from aworld.errors import InputError
from aworld.launch import cold_start, evaluations
from aworld.launch.checks import check_layout, check_model, check_playing, check_training
from aworld.launch.plan import BATCH, mode
from aworld.planning.cost import assumed_episodes, cost
from aworld.planning.disk import Evaluated
from aworld.planning.hardware import load
from aworld.planning.measured import Measured, measured
from aworld.planning.report import show
from aworld.planning.simulate import NEVER, Preemption
from aworld.rundir import HELD_OUT, RunDir, open_run


def read(words: list[str], configs: Path | None = None) -> tuple[Config, Measured | None]:
    """The configuration of a run directory with changes, or of overrides alone; and the figures of the run.

    The checkpoint need not be there: `model.path` may be left out.

    Raises:
        InputError: as `config.load` and `open_run` do.
        InfrastructureError: the trajectories of the run's newest round are damaged.
    """
    if words and "=" not in words[0]:
        config, run = open_run(Path(words[0]))
        return configuration.changed(config, words[1:], configs), measured(run)
    return configuration.load(["model.path=null", *words], configs), None


def estimate(
    config: Config,
    console: Console,
    found: Measured | None = None,
    mean_tokens: float | None = None,
    tool_seconds: float = 0.0,
    preemption: Preemption = NEVER,
) -> None:
    """Print what the run needs.

    Args:
        found: figures of a run; its episodes go before assumed ones.
        mean_tokens: of an episode, tools' results included; None: as `planning.cost.assumed_episodes` says.
        tool_seconds: that an episode spends in tools.

    Raises:
        InputError: nothing is trained, an option is below 0, or the run could not start.
    """
    if not config.pipeline.rounds:
        raise InputError("pipeline.rounds=0: a plan counts rounds of training; set it to 1 or more")
    given = {"--tokens": mean_tokens, "--tool-seconds": tool_seconds, "--preemptions": preemption.per_hour}
    for option, value in given.items():
        if value is not None and not 0 <= value < inf:
            raise InputError(f"{option} {value:g} cannot be; give a number of 0 or more")
    check_playing(config)
    check_training(config)
    check_layout(config)
    check_model(replace(config, model=replace(config.model, path=None)))  # the checkpoint need not be there
    evaluations.check(config)
    hardware = load(config.site)
    episodes = assumed_episodes(config, mean_tokens, tool_seconds)
    if found and mean_tokens is None:
        episodes = replace(found.episodes, tool_seconds=tool_seconds or found.episodes.tool_seconds)
    shown_by = cold_start.served(config)
    total = cost(config, mode(config) == BATCH, episodes, hardware, evaluated(config), found, preemption, shown_by)
    show(config, hardware, total, found, console)


def evaluated(config: Config) -> list[Evaluated]:
    """The evaluations that a run plans, and their sizes. No tasks are opened."""
    planned = {HELD_OUT: config, **evaluations.configurations(config, RunDir.of(config), has_model=False)}
    times = len(config.pipeline.evaluated)
    return [
        Evaluated(name, tasks.size(planned[name].tasks), planned[name].evaluation.attempts, times)
        for name in config.pipeline.evaluation_overrides
        if name in planned
    ]
