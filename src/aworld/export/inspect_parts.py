"""What becomes a log: an evaluation of a policy on a benchmark, or a round."""

from typing import Any

from omegaconf import OmegaConf

from aworld import config as configuration
from aworld.config import Config, decisive_sections
from aworld.evaluation import benchmark
from aworld.evaluation.about import about
from aworld.evaluation.attempt import Attempt, attempts_in
from aworld.evaluation.benchmark import Played
from aworld.export.inspect_log import Part
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.tasks.task import Task


def of_evaluation(run: RunDir, name: str, version: int) -> Part:
    """An evaluation.

    Raises:
        InputError: its tasks cannot be read.
    """
    config, _, _ = benchmark.read(run, name)
    endpoint = config.evaluation.endpoint.model
    return Part(
        f"{name}-{version}",
        name,
        endpoint or f"{run.root.resolve().name}/policy-{version}",
        config,
        run.evaluation(name, version) / "journals",
        benchmark.played(run, name, version),
        False,
        {"run": str(run.root), **about(run, name, version)},
    )


def of_round(config: Config, run: RunDir, number: int) -> Part:
    """A round: the tasks that it played, and each attempt at them.

    Raises:
        InputError: the tasks cannot be read.
    """
    folder = run.round(number) / "journals"
    episodes = attempts_in(folder)
    source = make_source(config.tasks, run.tasks)
    known = {task.task_id: task for task in source.tasks("train")}
    firsts: dict[str, Attempt] = {}
    for episode in episodes:
        firsts.setdefault(episode.task_id, episode)
    tasks = [known.get(name) or Task(name, first.read().question, None, first.level) for name, first in firsts.items()]
    sections: Any = OmegaConf.to_container(OmegaConf.structured(config))
    made_with = {key: sections[key] for key in (*decisive_sections(), "model", "rollout")}
    return Part(
        f"round-{number}",
        f"round-{number}",
        f"{run.root.resolve().name}/policy-{number - 1}" if number else "cold start",
        config,
        folder,
        Played(tasks, 1 + max((episode.attempt for episode in episodes), default=0), episodes, source),
        True,
        {"run": str(run.root), "settings": made_with, "provenance": configuration.read_provenance(run.config)},
    )
