"""A policy on a benchmark of its own configuration: `evals/NAME/` of a run directory, one folder per policy version."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InputError
from aworld.rundir import RunDir, publish_text
from aworld.tasks import make_source
from aworld.tasks.task import Task, TaskSource
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

DECIDES = ("tasks", "evaluation", "agent", "environment", "seed")  # what the figures depend on


@dataclass(frozen=True)
class Played:
    """What was asked, and what came of it; an attempt without an episode is still among those asked for."""

    tasks: list[Task]
    attempts: int
    episodes: list[Episode]
    source: TaskSource

    def of(self, task: Task) -> list[Episode]:
        return [episode for episode in self.episodes if episode.task_id == task.task_id]


def begin(config: Config, run: RunDir, name: str, version: int) -> None:
    """Fix the benchmark's configuration, so that every worker, today and after a resume, asks the same of a policy.

    Raises:
        InputError: it was begun with another one, or its tasks cannot be had.
    """
    make_source(config.tasks, run.benchmark(name).parent / "tasks")
    run.evaluation(name, version).mkdir(parents=True, exist_ok=True)
    if not run.benchmark(name).exists():
        publish_text(run.benchmark(name), configuration.to_yaml(config))
        return
    before = configuration.read(run.benchmark(name))
    for part in DECIDES:
        now = _flat(getattr(config, part), part)
        for key, value in _flat(getattr(before, part), part).items():
            if now[key] != value:
                raise InputError(
                    f"{name} was begun with {key}={value}, now it is {now[key]}; use the same, or remove "
                    f"{run.benchmark(name).parent}"
                )
    publish_text(run.benchmark(name), configuration.to_yaml(config))  # the site may be another


def read(run: RunDir, name: str) -> tuple[Config, RunDir, TaskSource]:
    """The configuration and the tasks of a benchmark that was begun.

    Raises:
        InputError: it was not.
    """
    path = run.benchmark(name)
    if not path.is_file():
        found = ", ".join(sorted(p.parent.name for p in path.parent.parent.glob("*/config.yaml"))) or "none"
        raise InputError(f"no benchmark '{name}' in {run.root}; there are: {found}; begin it: jobs/evaluate.py tasks=…")
    config = configuration.read(path)
    return config, run, make_source(config.tasks, path.parent / "tasks")


def played(run: RunDir, name: str, version: int) -> Played:
    """What a policy has played of a benchmark so far.

    Raises:
        InputError: nothing.
    """
    config, _, source = read(run, name)
    folder = run.evaluation(name, version)
    if not folder.is_dir():
        raise InputError(
            f"policy {version} was not evaluated on {name}; do: "
            f"jobs/evaluate.py {run.root} --policy {version} --name {name}"
        )
    episodes = journal.collect(folder / "journals")
    return Played(list(source.tasks("held_out")), config.evaluation.attempts, episodes, source)


def _flat(value: Any, name: str) -> dict[str, Any]:
    """The settings below `name`, by their full names."""
    if not is_dataclass(value):
        return {name: value}
    found: dict[str, Any] = {}
    for one in fields(value):
        found |= _flat(getattr(value, one.name), f"{name}.{one.name}")
    return found
