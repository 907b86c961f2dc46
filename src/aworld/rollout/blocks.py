"""A run's copy of the conversations that it learns from, cut into blocks of rows: each is a unit of work."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from aworld.tasks.task import Task

ROWS, BLOCKS = "rows.jsonl", "blocks.json"  # in the folder of the copy
PER_BLOCK = 64  # rows, at least
MOST_BLOCKS = 2000  # each claim lists the claims of all


@dataclass
class Block:
    """Some rows.

    Attributes:
        first: number of the first one, from 0.
        rows: how many there are.
        offset: of the first one in the file, in bytes.
    """

    first: int
    rows: int
    offset: int

    @property
    def task(self) -> Task:
        """The block in the place of a task, whose attempts are its rows."""
        words = f"rows {self.first + 1} to {self.first + self.rows}"
        return Task(f"conversations-{self.first:07d}", words, None, 1, source="conversations", metadata=vars(self))


def write(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows, and where the blocks begin. Many rows are cut into larger blocks."""
    blocks: list[Block] = []
    with open(folder / ROWS, "wb") as file:
        for number, values in enumerate(rows):
            if number % PER_BLOCK == 0:
                blocks.append(Block(number, 0, file.tell()))
            file.write(json.dumps(values).encode() + b"\n")
            blocks[-1].rows += 1
    size = max(1, ceil(len(blocks) / MOST_BLOCKS))
    joined = [_joined(blocks[at : at + size]) for at in range(0, len(blocks), size)]
    (folder / BLOCKS).write_text(json.dumps([vars(block) for block in joined]))


def _joined(blocks: Sequence[Block]) -> Block:
    return replace(blocks[0], rows=sum(block.rows for block in blocks))


def tasks(folder: Path) -> list[Task]:
    """The blocks in the place of tasks."""
    return [Block(**values).task for values in json.loads((folder / BLOCKS).read_text())]


def read(folder: Path, task: Task) -> list[dict[str, Any]]:
    """The rows of one block. Reads these alone."""
    with open(folder / ROWS, "rb") as file:
        file.seek(task.metadata["offset"])
        return [json.loads(file.readline()) for _ in range(task.metadata["rows"])]
