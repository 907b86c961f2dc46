"""What is asked: a source of tasks is a module of this room with a `source(config, folder)` function."""

import importlib
import pkgutil
from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.tasks.task import TaskSource


def make_source(config: schema.Tasks, folder: Path) -> TaskSource:
    """The task source that `config.source` names; a generated one writes into `folder`.

    Raises:
        InputError: no source of that name.
    """
    names = [
        m.name
        for m in pkgutil.iter_modules(__path__)
        if m.name not in ("task", "scoring", "judge", "prefetch", "gym_score")
    ]
    if config.source not in names:
        raise InputError(f"no task source '{config.source}' (tasks.source); valid: {', '.join(sorted(names))}")
    return importlib.import_module(f"{__name__}.{config.source}").source(config, folder)
