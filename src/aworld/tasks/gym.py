"""Tasks that reasoning-gym makes and scores (arXiv 2505.24760), as many as asked for, from a seed.

`tasks.datasets` names its generators, such as [chain_sum, leg_counting]. A training and a held-out task never have the
same question.
"""

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import reasoning_gym

from aworld import config as schema
from aworld.errors import InputError
from aworld.publish import publish_folder
from aworld.tasks.task import Program, Task

SCORER = Path(__file__).with_name("gym_score.py")
USES = ("seed", "train", "held_out", "datasets")  # of the settings below `tasks`
SPLITS = ("train", "held_out")


class GymTasks:
    """A TaskSource made into `folder` (once; later uses read it). The reward may be a fraction of 1."""

    corpus = None

    def __init__(self, config: schema.Source, folder: Path):
        self.folder = folder
        publish_folder(folder, lambda where: _generate(config, where))

    def tasks(self, split: str) -> Iterable[Task]:
        for line in (self.folder / f"{split}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            entry = ast.literal_eval(row["entry"])
            yield Task(row["task_id"], row["question"], row["answer"], 1, source="gym", metadata=entry)

    def score(self, answer: str | None, task: Task) -> Program:
        """The dataset's own scorer. Some of them evaluate the answer as Python."""
        name = task.metadata["metadata"]["source_dataset"]
        return Program(SCORER, {"dataset": name, "answer": answer, "entry": repr(task.metadata)})


def source(config: schema.Source, folder: Path) -> GymTasks:
    return GymTasks(config, folder)


def _generate(config: schema.Source, folder: Path) -> None:
    if not config.datasets:
        raise InputError("tasks.datasets is empty; name some of reasoning-gym's, such as [chain_sum, leg_counting]")
    asked: set[str] = set()
    for at, (split, count) in enumerate(zip(SPLITS, (config.train, int(config.held_out)), strict=True)):
        lines = []
        for number in range(count):
            name = config.datasets[number % len(config.datasets)]
            entry = _new(name, config.seed + 1_000_003 * at, number, asked)
            row = {"task_id": f"{split}-{number:05d}", "question": entry["question"], "answer": str(entry["answer"])}
            lines.append(json.dumps({**row, "entry": repr(_plain(entry))}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")


def _plain(value: Any) -> Any:
    """The same value in Python's own types. JSON would turn a tuple into a list, and some scorers tell them apart."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else set(items) if isinstance(value, set) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _new(name: str, seed: int, number: int, asked: set[str]) -> dict[str, Any]:
    """An entry whose question was not asked before."""
    for again in range(100):
        try:
            dataset = reasoning_gym.create_dataset(name, seed=seed + 7919 * number + again, size=1)
        except ValueError as reason:
            raise InputError(f"tasks.datasets: reasoning-gym makes no '{name}' ({reason})") from None
        entry: dict[str, Any] = dataset[0]
        if entry["question"] not in asked:
            asked.add(entry["question"])
            return entry
    raise InputError(f"tasks.datasets: '{name}' has too few different questions; ask for fewer tasks")
