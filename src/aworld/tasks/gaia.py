"""GAIA (arXiv 2311.12983) from a local copy of the gated dataset; `aworld prefetch gaia` makes one.

Both of its layouts are read: `metadata.parquet` as it is today, and `metadata.jsonl` as it was; `2023/SPLIT/` holds the
metadata, attachments lie beside it. Nothing of GAIA is part of this project, and nothing of it may be passed on.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.errors import InputError
from aworld.tasks.scoring import gaia_correct
from aworld.tasks.task import Task, check_fetched

USES = ("path", "split", "purpose")  # of the settings below `tasks`
COLUMNS = ("task_id", "Question", "Level", "Final answer", "file_name")
METADATA = ("metadata.parquet", "metadata.jsonl")
DUMMY = "0-0-0-0-0"  # a row of the test split that asks nothing
WITHHELD = ("", "?")  # the test split's answers are the leaderboard's
SPLITS = {"validation": 165, "test": 301}  # and how many questions each has


class GaiaTasks:
    """A TaskSource: all rows are held out; with `tasks.purpose=train` all of them are for training instead."""

    corpus = None

    def __init__(self, config: schema.Tasks):
        if not config.path or config.split not in SPLITS:
            raise InputError(
                f"tasks.path={config.path} tasks.split={config.split}: name the folder of a local copy of GAIA and one "
                f"of {', '.join(SPLITS)}; to make a copy: aworld prefetch gaia FOLDER"
            )
        self.root = Path(config.path)
        self._split = "train" if config.purpose == "train" else "held_out"
        self._tasks = _read(self.root, config.split)
        if self._split == "train" and all(task.answer is None for task in self._tasks):
            raise InputError(
                f"tasks.purpose=train: the answers of GAIA's split {config.split} are withheld; train on "
                "tasks=gaia-validation"
            )

    def tasks(self, split: str) -> Iterable[Task]:
        return self._tasks if split == self._split else []

    def score(self, answer: str | None, task: Task) -> float:
        return float(task.answer is not None and gaia_correct(answer, task.answer))


def size(config: schema.Tasks) -> int:
    """The number of questions of a split."""
    return SPLITS.get(config.split, 0)


def source(config: schema.Tasks, folder: Path) -> GaiaTasks:
    return GaiaTasks(config)


def _read(root: Path, split: str) -> list[Task]:
    metadata = _find(root, split)
    rows = [row for row in _rows(metadata) if row.get("task_id") != DUMMY]
    tasks = [_task(row, number, root, metadata) for number, row in enumerate(rows)]
    if not tasks:
        raise InputError(f"{metadata} holds no task; fetch the copy anew: aworld prefetch gaia {root}")
    names = [task.task_id for task in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"{metadata}: task {min(twice)} is there twice; fetch the copy anew: aworld prefetch gaia {root}"
        )
    return tasks


def _find(root: Path, split: str) -> Path:
    """The metadata of a split, the newer layout first."""
    folders = (root / "2023" / split, root / split)
    for name in METADATA:
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"no {' or '.join(METADATA)} in {folders[0]}; set tasks.path to a copy of GAIA, or make one: "
        f"aworld prefetch gaia {root}"
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    check_fetched(path)
    try:
        if path.suffix == ".jsonl":
            # At "\n" alone: JSON leaves U+2028, U+2029 and U+0085 as they are inside of strings.
            return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
        from pyarrow import parquet  # takes its time

        table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return table
    except ValueError as reason:  # json's and pyarrow's
        raise InputError(f"{path} cannot be read ({reason}); fetch it again: aworld prefetch gaia FOLDER") from None


def _task(row: dict[str, Any], number: int, root: Path, metadata: Path) -> Task:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise InputError(f"{metadata}: row {number} has no {', '.join(missing)}; is this GAIA's metadata?")
    answer = row["Final answer"]
    return Task(
        task_id=row["task_id"],
        question=row["Question"],
        answer=None if _is_null(answer) or str(answer) in WITHHELD else str(answer),
        level=_level(row, number, metadata),
        files=_files(row, root, metadata),
        source="gaia",
    )


def _level(row: dict[str, Any], number: int, metadata: Path) -> int:
    """1 to 3, written as a number, or as "Level 1"."""
    written = str(row["Level"]).strip()
    if not (found := re.fullmatch(r"(?:level\s*)?([1-3])(?:\.0)?", written, re.IGNORECASE)):
        raise InputError(f"{metadata}: row {number} has the Level {written!r}; it is to be 1, 2 or 3")
    return int(found[1])


def _files(row: dict[str, Any], root: Path, metadata: Path) -> tuple[Path, ...]:
    """The attachment, by `file_path`, which begins at the copy's root, or beside the metadata by `file_name`."""
    name, path_in_copy = row["file_name"], row.get("file_path")
    if not name or _is_null(name):
        return ()
    path = metadata.parent / name if not path_in_copy or _is_null(path_in_copy) else root / path_in_copy
    if not path.is_file():
        raise InputError(f"the attachment {path} of task {row['task_id']} is not there; fetch the whole copy")
    check_fetched(path)
    return (path,)


def _is_null(value: Any) -> bool:
    """Whether a field is empty: None, or NaN, as table libraries write it."""
    return value is None or value != value
