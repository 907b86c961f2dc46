"""A policy on a benchmark of its own configuration: `evals/NAME/` of a run directory, one folder per policy version."""

import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from omegaconf import OmegaConf

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InputError
from aworld.rundir import RunDir, publish_text
from aworld.tasks import make_source
from aworld.tasks.task import Task, TaskSource
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

DECIDES = ("tasks", "evaluation", "agent", "environment", "seed")  # what the figures depend on
FREE = re.compile(  # of these: where things lie, keys, and how long is waited
    r"tasks\.path|environment\.(slots|start_seconds)|.*\.(endpoint|judge)\.(base_url|key_variable|seconds)"
)


@dataclass(frozen=True)
class Played:
    """What was asked, and what came of it; an attempt without an episode is still among those asked for."""

    tasks: list[Task]
    attempts: int
    episodes: list[Episode]
    source: TaskSource


def begin(config: Config, run: RunDir, name: str, version: int, tasks: str = "") -> None:
    """Fix the benchmark's configuration, so that every worker, today and after a resume, asks the same of a policy.

    Args:
        tasks: the NAME of `tasks=NAME`, if that was said.

    Raises:
        InputError: it was begun with another one, or its tasks cannot be had.
    """
    path = run.benchmark(name)
    if path.exists():
        begun = OmegaConf.select(OmegaConf.load(path), "provenance.tasks", default=tasks)
        if tasks and tasks != begun:
            was = f"tasks={begun}" if begun else "the run's own tasks"
            raise InputError(f"{name} was begun with {was}, not tasks={tasks}; give the other one another --name")
        tasks, before = begun, configuration.read(path)
        for key, (was, now) in differences(before, config).items():
            if key.partition(".")[0] in DECIDES and not FREE.fullmatch(key):
                raise InputError(f"{name} was begun with {key}={was}, now it is {now}; use the same, or another --name")
    make_source(config.tasks, path.parent / "tasks")
    run.evaluation(name, version).mkdir(parents=True, exist_ok=True)
    publish_text(path, configuration.to_yaml(config) + "\n" + OmegaConf.to_yaml({"provenance": {"tasks": tasks}}))


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


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by their full names: before and now; None where it is not there."""
    old, new = _flat(before, ""), _flat(now, "")
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def _flat(value: Any, name: str) -> dict[str, Any]:
    """The settings below `name`, by their full names."""
    if is_dataclass(value):
        below = {one.name: getattr(value, one.name) for one in fields(value)}
    elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
        below = value
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, one in below.items():
        found |= _flat(one, f"{name}.{key}" if name else key)
    return found
