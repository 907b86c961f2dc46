"""Sources of tasks. A source is a module of this package with a `source(config, folder)` function.

Its `USES` names the settings below `tasks` that it reads; one that it does not read is refused. A benchmark of a known
size has `size(config)`, the number of its tasks. A source of the user's own is a function of a file, or an entry point
of aworld.tasks: `make(config, folder)`. It returns a TaskSource, or the rows of each split: {"train": [...],
"held_out": [...]}.
"""

import importlib
import pkgutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from aworld import config as schema
from aworld import plugins
from aworld.errors import AWorldError, InputError, disk_full, forbidden
from aworld.publish import is_complete, mark_complete
from aworld.tasks import jsonl, rewards, rows
from aworld.tasks.mixture import BETWEEN, MixedTasks, in_part
from aworld.tasks.rewards import AnswerReward, Reward
from aworld.tasks.task import EpisodeSource, Given, Played, Task, TaskSet, TaskSource

HELPERS = (
    "task",
    "commands",
    "scoring",
    "judge",
    "prefetch",
    "gym_score",
    "inspect_score",
    "math_score",
    "own_reward",
    "rewards",
    "rows",
    "verifiers_score",
)
LONGEST_ID = 128  # bytes in UTF-8, in the table of a trajectory file
MIXTURE = "mixture"
GROUP = "aworld.tasks"  # of entry points
COMMON = ("source", "score_seconds")  # settings that every source has; of a mixture, each part


def make_source(config: schema.Source, folder: Path, copies: Path | None = None) -> TaskSet:
    """The tasks of `config.source`. Made and copied files lie in `folder`.

    Args:
        copies: of the user's own files, by `plugins.keep`; None: beside `folder`.

    Raises:
        InputError: no source of that name, or its tasks cannot be read; `tasks` of the source raises it as well.
    """
    copies = folder.with_name(plugins.FOLDER) if copies is None else copies
    if config.source == MIXTURE:
        assert isinstance(config, schema.Tasks)
        parts: dict[str, TaskSet] = {}
        for name, part in config.mixture.items():
            with in_part(name):
                parts[name] = make_source(part, folder / name, copies)
        if folder.is_dir() and not is_complete(folder):
            mark_complete(folder)
        return MixedTasks(parts, weights(config))
    if is_own(config):
        made: TaskSource | EpisodeSource = _own(config, folder, copies)
        return _Made(config.source, made, rewards.make(config, made, copies))
    module = _module(config)
    with _read_by(str(module.__file__)):
        made = module.source(config, folder)
        return _Made(str(module.__file__), made, rewards.make(config, made, copies))


class _Made:
    """A TaskSet: a source with its reward.

    A failure to read its tasks is an InputError: files move, and a module may not check.
    """

    def __init__(self, name: str, source: TaskSource | EpisodeSource, reward: Reward):
        self._name, self._source, self._reward = name, source, reward
        self.corpus, self.reads_files = source.corpus, reward.reads_files

    def tasks(self, split: str) -> Iterable[Task]:
        with _read_by(self._name):
            found = list(self._source.tasks(split))
        if isinstance(self._reward, AnswerReward):
            return found
        return [replace(task, needs_gold=False) if task.answer is None else task for task in found]

    def reward(self, episode: Played, task: Task, folder: Path | None) -> Given:
        return self._reward(episode, task, folder)


@contextmanager
def _read_by(name: str) -> Iterator[None]:
    try:
        yield
    except AWorldError:
        raise
    except Exception as error:
        if disk_full(error) or forbidden(error):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"the tasks cannot be read by {name}: {reason}; mend tasks.path, or the module") from error


def is_own(config: schema.Source) -> bool:
    """Whether the source is the user's own: a file, or an entry point."""
    return plugins.is_file(config.source) or config.source in plugins.entry_points(GROUP)


def _own(config: schema.Source, folder: Path, copies: Path | None) -> TaskSource | EpisodeSource:
    """The user's own source. Rows are written into `folder`, and read from there ever after."""
    if is_complete(folder) and all((folder / f"{split}.jsonl").is_file() for split in jsonl.SPLITS):
        return jsonl.RowTasks(folder)
    make = plugins.load(config.source, setting="tasks.source", group=GROUP, copies=copies)
    folder.mkdir(parents=True, exist_ok=True)
    with _read_by(config.source):
        made = make(config, folder)
        if not isinstance(made, Mapping):
            own: TaskSource | EpisodeSource = made
            return own
        if unknown := [str(split) for split in made if split not in jsonl.SPLITS]:
            raise InputError(f"tasks.source={config.source}: there is no split {unknown[0]}; give train and held_out")
        base = Path(config.source.rpartition(":")[0]).parent
        found = {
            split: rows.tasks_of(_numbered(config.source, split, given), base, "own") for split, given in made.items()
        }
        jsonl.check_unseen(found)
        jsonl.write(found, folder)
    mark_complete(folder)
    return jsonl.RowTasks(folder)


def _numbered(name: str, split: str, given: Iterable[Any]) -> Iterator[rows.Row]:
    return (rows.Row(f"{name} {split} row {number}", values) for number, values in enumerate(given, 1))


def uses(config: schema.Source) -> tuple[str, ...]:
    """The settings below `tasks` that the source reads.

    Raises:
        InputError: no source of that name.
    """
    if config.source == MIXTURE:
        return (MIXTURE,)
    if is_own(config):
        return tuple(one.name for one in fields(schema.Source))
    found: tuple[str, ...] = _module(config).USES
    return found


def size(config: schema.Source) -> int:
    """How many tasks an evaluation has, as far as the settings tell without reading them.

    Raises:
        InputError: no source of that name.
    """
    if isinstance(config, schema.Tasks) and config.mixture:
        return sum(map(size, config.mixture.values()))
    if not is_own(config):
        module = _module(config)
        if hasattr(module, "size"):
            return int(module.size(config))
    return int(config.held_out if config.held_out >= 1 else config.held_out * config.train)


def check(config: schema.Source, copies: Path | None = None, where: str = "tasks") -> None:
    """Check that the source and its reward exist, and that it uses each setting that is given.

    Args:
        copies: of the user's own files.
        where: the full name of the settings.

    Raises:
        InputError: no source or reward of that name, or a setting is given that the source does not use.
    """
    used = uses(config)
    for one in fields(config):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        value = getattr(config, one.name)
        common = COMMON[:1] if config.source == MIXTURE else COMMON
        if one.name not in (*common, "weight", *used) and value != default:
            raise InputError(
                f"{where}.{one.name}={value}: {where}.source={config.source} does not use it, only {', '.join(used)}; "
                "leave it out, or choose other tasks with tasks=NAME"
            )
    if "train" in used and not is_own(config) and not isinstance(config.held_out, int):
        raise InputError(f"{where}.held_out={config.held_out}: {config.source} makes tasks; say how many")
    if plugins.is_file(config.source) and not callable(
        plugins.load(config.source, setting=f"{where}.source", group=GROUP, copies=copies)
    ):
        raise InputError(
            f"{where}.source={config.source} is no function; name one that takes the settings and a folder"
        )
    rewards.check(config, where, copies)
    for name, part in getattr(config, MIXTURE, {}).items():
        if part.source == MIXTURE or BETWEEN in name:
            raise InputError(f"{where}.{MIXTURE}.{name}: a part has a name without {BETWEEN}, and is no mixture itself")
        check(part, copies, f"{where}.{MIXTURE}.{name}")
    if config.source == MIXTURE and not getattr(config, MIXTURE, {}):
        raise InputError(f"{where}.{MIXTURE} is empty; name its parts, such as {where}.{MIXTURE}.NAME.source=jsonl")


def edited(config: schema.Source, folder: Path) -> list[str]:
    """A line for each file of rows that changed since it was copied into `folder`."""
    if isinstance(config, schema.Tasks) and config.mixture:
        return [line for name, part in config.mixture.items() for line in edited(part, folder / name)]
    return jsonl.edited(folder) if config.source in ("jsonl", "harbor") else []


def weights(config: schema.Tasks) -> dict[str, float]:
    """The weight of each part of a mixture, by its name; empty: there are no parts."""
    return {name: part.weight for name, part in config.mixture.items()}


def score_seconds(config: schema.Tasks, task: Task) -> float:
    """The time limit of scoring an episode of this task: that of its part, in a mixture."""
    return (config.mixture[task.source] if config.mixture else config).score_seconds


def check_ids(tasks: Iterable[Task]) -> None:
    """Check that the ids of one split can be stored.

    Raises:
        InputError: two tasks of a split have one id, or an id cannot be stored.
    """
    seen: set[str] = set()
    for task in tasks:
        if fault := id_fault(task, seen):
            raise InputError(f"tasks.source={task.source}: the task id {task.task_id!r} {fault}")
        seen.add(task.task_id)


def id_fault(task: Task, seen: Collection[str]) -> str:
    """Why a task cannot have its id, with the mend; empty where it can. `seen`: ids of the same split before it."""
    name = task.task_id
    if not isinstance(name, str) or not name.isprintable() or not name:
        return "is no printable text; give each task one"
    if (size := len(name.encode())) > LONGEST_ID:
        return f"has {size} bytes; shorten it to {LONGEST_ID}"
    return "is there twice in a split; give each task its own" if name in seen else ""


def _module(config: schema.Source) -> ModuleType:
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS]
    if config.source not in names:
        valid = ", ".join(sorted([*names, *plugins.entry_points(GROUP)]))
        raise InputError(f"no task source '{config.source}' (tasks.source); valid: {valid}, /path/file.py:NAME")
    return importlib.import_module(f"{__name__}.{config.source}")
