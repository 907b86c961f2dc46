"""A mixture of sources: each round has of each part as many tasks as its weight says.

A task's id begins with the name of its part. Each part has a reward, a seed and held-out tasks of its own.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aworld.errors import InputError
from aworld.tasks.task import Given, Played, Task, TaskSet

USES = ("mixture",)  # of the settings below `tasks`
BETWEEN = "/"  # the name of a part and an id of it


class MixedTasks:
    """A TaskSet of several, `parts` by their names."""

    def __init__(self, parts: dict[str, TaskSet]):
        self.parts = parts
        with_corpus = [name for name, part in parts.items() if part.corpus]
        if len(with_corpus) > 1:
            raise InputError(
                f"tasks.mixture: {' and '.join(with_corpus)} bring a corpus each, but search has one; leave one out"
            )
        self.corpus: Path | None = parts[with_corpus[0]].corpus if with_corpus else None
        self.reads_files = any(part.reads_files for part in parts.values())

    def tasks(self, split: str) -> Iterable[Task]:
        for name, part in self.parts.items():
            for task in part.tasks(split):
                yield replace(task, task_id=f"{name}{BETWEEN}{task.task_id}", source=name)

    def reward(self, episode: Played, task: Task, folder: Path | None) -> Given:
        """As the part's."""
        name, _, task_id = task.task_id.partition(BETWEEN)
        return self.parts[name].reward(episode, replace(task, task_id=task_id), folder)
