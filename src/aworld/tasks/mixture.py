"""A mixture of sources: each round has of each part as many tasks as its weight says.

A task's id begins with the name of its part. Each part has a reward, a seed and held-out tasks of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.tasks.task import Given, Played, Task, TaskSet

USES = ("mixture",)  # of the settings below `tasks`
BETWEEN = "/"  # the name of a part and an id of it
SETTING = re.compile(rf"(?<![\w/.-])tasks\.({'|'.join(one.name for one in fields(schema.Source))})\b")


class MixedTasks:
    """A TaskSet of several, `parts` by their names, with the weight of each.

    The first n tasks to train on have the shares of the weights, for any n that no part is too small for.
    """

    def __init__(self, parts: dict[str, TaskSet], weights: Mapping[str, float]):
        self.parts, self.weights = parts, weights
        with_corpus = [name for name, part in parts.items() if part.corpus]
        if len(with_corpus) > 1:
            raise InputError(
                f"tasks.mixture: {' and '.join(with_corpus)} bring a corpus each, but search has one; leave one out"
            )
        self.corpus: Path | None = parts[with_corpus[0]].corpus if with_corpus else None
        self.reads_files = any(part.reads_files for part in parts.values())

    def tasks(self, split: str) -> Iterable[Task]:
        found: list[tuple[float, Task]] = []
        for name, part in self.parts.items():
            with in_part(name):
                tasks = list(part.tasks(split))
            for number, task in enumerate(tasks):
                named = replace(task, task_id=f"{name}{BETWEEN}{task.task_id}", source=name)
                found.append(((number + 0.5) / self.weights[name] if split == "train" else 0.0, named))
        return [task for _, task in sorted(found, key=lambda one: one[0])]

    def reward(self, episode: Played, task: Task, folder: Path | None) -> Given:
        """As the part's."""
        name, _, task_id = task.task_id.partition(BETWEEN)
        return self.parts[name].reward(episode, replace(task, task_id=task_id), folder)


@contextmanager
def in_part(name: str) -> Iterator[None]:
    """Name the settings of this part in an InputError, where its source names them as if it stood alone."""
    try:
        yield
    except InputError as error:
        error.args = (SETTING.sub(lambda found: f"tasks.{USES[0]}.{name}.{found[1]}", str(error)),)
        raise
