"""What an answer alone is worth, of the tasks as a rollout gets them."""

from types import SimpleNamespace
from typing import Any

from aworld.tasks.task import Task, TaskSet


def worth(source: TaskSet, answer: str | None, task: Task) -> Any:
    return source.reward(SimpleNamespace(answer=answer), task, None)  # type: ignore[arg-type]
