"""A policy on a benchmark of its own configuration: `evals/NAME/` of a run directory, one folder per policy version."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aworld import config as configuration
from aworld import plugins
from aworld.config import Change, Config
from aworld.errors import InputError
from aworld.evaluation.attempt import Attempt, attempts_in
from aworld.publish import publish_text
from aworld.rundir import HELD_OUT, RunDir, finished, note_finished, numbered
from aworld.tasks import edited, make_source
from aworld.tasks.task import Task, TaskSet
from aworld.trajectories import journal
from aworld.trajectories.record import Record

Kind = TypeVar("Kind", bound=Record, covariant=True)


@dataclass(frozen=True)
class Played(Generic[Kind]):
    """The tasks of an evaluation and the episodes played. An attempt without an episode still counts as asked."""

    tasks: list[Task]
    attempts: int
    episodes: Sequence[Kind]
    source: TaskSet

    @property
    def missing(self) -> int:
        """Attempts that were asked for and are not played."""
        return len(self.tasks) * self.attempts - len(self.episodes)


def begin(
    config: Config,
    run: RunDir,
    name: str,
    version: int,
    tasks: str = "",
    provenance: Callable[[], dict[str, str]] = dict,
    check: Callable[[TaskSet], None] = lambda source: None,
) -> None:
    """Fix the benchmark's configuration, so that every worker, today and after a resume, asks the same of a policy.

    More attempts may be asked for later: the seed of an attempt does not depend on how many there are.

    Args:
        tasks: the NAME of `tasks=NAME`, if that was said.
        provenance: called when the benchmark is new, for the commit and the versions of what runs.
        check: refuses tasks that cannot be played, before anything is fixed.

    Raises:
        InputError: it was played with another one, or its tasks cannot be had.
    """
    path = run.benchmark(name)
    if path.exists():
        before = configuration.read(path)
        tasks = tasks if is_another(run, name, tasks) else _tasks(run, name, tasks)
        kept = configuration.read_provenance(path) | {"tasks": tasks}
        changes = configuration.differences(before, config)
        if is_played(run, name):
            _check_same(name, changes)
        elif before.tasks != config.tasks:
            shutil.rmtree(path.parent / "tasks", ignore_errors=True)
    else:
        kept, changes = {"tasks": tasks, **provenance()}, {}
    own, rows = path.parent / plugins.FOLDER, path.parent / "tasks"
    changed = [*plugins.keep(plugins.named(config.tasks), own), *edited(config.tasks, rows)]
    if changed and not is_played(run, name):
        shutil.rmtree(own, ignore_errors=True)
        shutil.rmtree(rows, ignore_errors=True)
        changed = plugins.keep(plugins.named(config.tasks), own)
    for line in [*changed, *plugins.keep({"agent.player": config.agent.player}, run.own)]:
        print(f"note: {line}", file=sys.stderr)
    check(make_source(config.tasks, rows))
    if any(change.when == "upwards" for change in changes.values()):
        reopen(run, name)
    run.evaluation(name, version).mkdir(parents=True, exist_ok=True)
    publish_text(path, configuration.to_yaml(config, kept))


def reopen(run: RunDir, name: str) -> None:
    """Mark the evaluation of every policy as unfinished, because more attempts are asked for."""
    place = run.evaluation(name, 0).parent
    for number in finished(place):
        note_finished(place, number, {})
    for folder in numbered(place):
        (folder / "timing.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "closing", ignore_errors=True)


def is_played(run: RunDir, name: str) -> bool:
    """Whether any policy has recorded an episode of the benchmark. Before that its settings may change."""
    return any(is_begun(folder) for folder in numbered(run.benchmark(name).parent))


def is_another(run: RunDir, name: str, tasks: str) -> bool:
    """Whether `tasks=TASKS` begins the benchmark anew: it was begun with other tasks, and never played.

    Raises:
        InputError: it was played with others.
    """
    begun = _tasks(run, name, tasks)
    if not tasks or tasks == begun:
        return False
    if is_played(run, name):
        was = f"tasks={begun}" if begun else "the run's own tasks"
        raise InputError(f"{name} was begun with {was}, not tasks={tasks}; give the other one another --name")
    return True


def is_begun(folder: Path) -> bool:
    """Whether the folder of an evaluation holds an episode."""
    return any(path.stat().st_size > len(journal.HEADER) for path in folder.glob("journals/*.journal"))


def _tasks(run: RunDir, name: str, default: str) -> str:
    """The NAME of `tasks=NAME` that it was begun with; empty: the run's own tasks."""
    return configuration.read_provenance(run.benchmark(name)).get("tasks", default)


def _check_same(name: str, changes: dict[str, Change]) -> None:
    for key, change in changes.items():
        if not change.in_a_benchmark:
            more = " or more of them" if change.when == "upwards" else ""
            was, now = change.was, change.now
            raise InputError(
                f"{name} was begun with {key}={was}, now it is {now}; use the same{more}, or another --name"
            )


def read(run: RunDir, name: str) -> tuple[Config, RunDir, TaskSet]:
    """The configuration and the tasks of a benchmark that was begun, or of the evaluations on the run's own tasks.

    Raises:
        InputError: there is no such benchmark.
    """
    if name == HELD_OUT:
        config = configuration.read(run.config)
        return config, run, make_source(config.tasks, run.tasks)
    path = run.benchmark(name)
    if not path.is_file():
        found = ", ".join([HELD_OUT, *sorted(p.parent.name for p in path.parent.parent.glob("*/config.yaml"))])
        raise InputError(
            f"no benchmark '{name}' in {run.root}; there are: {found}; begin it: aworld launch evaluate RUN tasks=…"
        )
    config = configuration.read(path)
    return config, run, make_source(config.tasks, path.parent / "tasks")


def played(run: RunDir, name: str, version: int) -> Played[Attempt]:
    """The part of a benchmark that a policy has played so far.

    Raises:
        InputError: it has played nothing.
    """
    return _played(run, name, version, attempts_in)


def outcomes(run: RunDir, name: str, version: int) -> Played[Record]:
    """As `played`, for figures that need rewards alone: no text is read, so an attempt with a damaged one counts."""
    return _played(run, name, version, journal.records)


def _played(run: RunDir, name: str, version: int, found_in: Callable[[Path], list[Kind]]) -> Played[Kind]:
    config, _, source = read(run, name)
    episodes = found_in(journals(run, name, version))
    return Played(list(source.tasks("held_out")), config.evaluation.attempts, episodes, source)


def journals(run: RunDir, name: str, version: int) -> Path:
    """The folder of the journals of a policy on a benchmark.

    Raises:
        InputError: the policy has played nothing of it.
    """
    folder = run.evaluation(name, version)
    if not is_begun(folder):
        raise InputError(
            f"policy {version} was not evaluated on {name}: no episode was played; do: {command(run, name, version)}"
        )
    return folder / "journals"


def command(run: RunDir, name: str, version: int) -> str:
    """The command that begins or continues an evaluation."""
    named = "" if name == HELD_OUT else f" --name {name}"
    return f"aworld launch evaluate {run.root} --policy {version}{named}"
