"""Sources of tasks. A source is a module of this package with a `source(config, folder)` function.

Its `USES` names the settings below `tasks` that it reads; one that it does not read is refused. A benchmark of a known
size has `size(config)`, the number of its tasks.
"""

import importlib
import pkgutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import ModuleType

from aworld import config as schema
from aworld.errors import AWorldError, InputError, disk_full, forbidden
from aworld.tasks.task import Program, Task, TaskSource

HELPERS = ("task", "scoring", "judge", "prefetch", "gym_score")
LONGEST_ID = 128  # bytes in UTF-8, in the table of a trajectory file


def make_source(config: schema.Tasks, folder: Path) -> TaskSource:
    """The task source that `config.source` names; a generated one writes into `folder`.

    Raises:
        InputError: no source of that name, or its tasks cannot be read; `tasks` of the source raises it as well.
    """
    module = _module(config)
    with _read_by(module):
        source: TaskSource = module.source(config, folder)
        return _Readable(module, source, source.corpus)


@dataclass
class _Readable:
    """A source whose every failure to read its tasks is an InputError: files move, and a module may not check."""

    module: ModuleType
    source: TaskSource
    corpus: Path | None

    def tasks(self, split: str) -> Iterable[Task]:
        with _read_by(self.module):
            return list(self.source.tasks(split))

    def score(self, answer: str | None, task: Task) -> float | Program:
        return self.source.score(answer, task)


@contextmanager
def _read_by(module: ModuleType) -> Iterator[None]:
    try:
        yield
    except AWorldError:
        raise
    except Exception as error:
        if disk_full(error) or forbidden(error):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"the tasks cannot be read by {module.__file__}: {reason}; mend tasks.path, or the module"
        ) from error


def uses(config: schema.Tasks) -> tuple[str, ...]:
    """The settings below `tasks` that the source reads.

    Raises:
        InputError: no source of that name.
    """
    found: tuple[str, ...] = _module(config).USES
    return found


def size(config: schema.Tasks) -> int:
    """How many tasks an evaluation has, as far as that is known without reading them; else `tasks.held_out`.

    Raises:
        InputError: no source of that name.
    """
    module = _module(config)
    return int(module.size(config)) if hasattr(module, "size") else config.held_out


def check(config: schema.Tasks) -> None:
    """Check that the source exists and uses each setting that is given.

    Raises:
        InputError: no source of that name, or a setting is given that it does not use.
    """
    used = uses(config)
    for one in fields(config):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        value = getattr(config, one.name)
        if one.name not in ("source", *used) and value != default:
            raise InputError(
                f"tasks.{one.name}={value}: tasks.source={config.source} does not use it, only {', '.join(used)}; "
                "leave it out, or choose other tasks with tasks=NAME"
            )


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


def _module(config: schema.Tasks) -> ModuleType:
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS]
    if config.source not in names:
        raise InputError(f"no task source '{config.source}' (tasks.source); valid: {', '.join(sorted(names))}")
    return importlib.import_module(f"{__name__}.{config.source}")
