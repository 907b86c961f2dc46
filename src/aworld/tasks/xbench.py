"""xbench-DeepSearch from its CSV file, whose questions and answers are encoded against being read by crawlers.

Columns `id, prompt, answer, reference_steps, canary`; prompt and answer are base64 of the text XORed with the canary.
An answer is right where it equals the gold one, up to case, white space, thousands separators and the punctuation
around it, full-width forms included; where `tasks.judge` names an endpoint, a model decides what that leaves open.
"""

import base64
import binascii
import csv
import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.tasks.judge import Judge
from aworld.tasks.task import Task, check_fetched

USES = ("path", "judge")  # of the settings below `tasks`
COLUMNS = ("id", "prompt", "answer", "canary")
QUESTIONS = 100


class XbenchTasks:
    """A TaskSource: all rows are held out."""

    corpus = None

    def __init__(self, config: schema.Tasks):
        if not config.path or not Path(config.path).is_file():
            raise InputError(f"tasks.path={config.path}: no such file; set it to xbench-DeepSearch's CSV")
        self._config = config.judge
        self._tasks = _read(Path(config.path))

    @cached_property
    def _judge(self) -> Judge | None:
        """Made when there is something to judge: who only reads what was played needs no key."""
        return Judge(self._config) if self._config.model else None

    def tasks(self, split: str) -> Iterable[Task]:
        return self._tasks if split == "held_out" else []

    def score(self, answer: str | None, task: Task) -> float:
        if answer is None or task.answer is None:
            return 0.0
        if plain(answer) == plain(task.answer):
            return 1.0
        return float(self._judge is not None and self._judge.agrees(task.question, answer, task.answer))


def size(config: schema.Tasks) -> int:
    """The number of questions of the published file."""
    return QUESTIONS


def source(config: schema.Tasks, folder: Path) -> XbenchTasks:
    return XbenchTasks(config)


def decode(text: str, canary: str) -> str:
    """Undo the benchmark's encoding.

    Raises:
        ValueError: it is not so encoded.
    """
    data = base64.b64decode(text, validate=True)
    return bytes(a ^ b for a, b in zip(data, itertools.cycle(canary.encode()), strict=False)).decode()


def plain(text: str) -> str:
    """One case, no white space, no punctuation around it; full-width and compatibility forms as the usual ones."""
    folded = re.sub(r"\s", "", unicodedata.normalize("NFKC", text).casefold())
    folded = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", folded)
    marks = "".join({c for c in folded if unicodedata.category(c)[0] == "P"})
    bare = folded.strip(marks)
    return f"-{bare}" if re.search(r"-\d", folded[: folded.find(bare) + 1]) else bare  # a sign is no punctuation


def _read(path: Path) -> list[Task]:
    check_fetched(path)
    with open(path, encoding="utf-8-sig", newline="") as f:
        rows = csv.DictReader(f)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path} has no column {', '.join(missing)}; is this xbench-DeepSearch's CSV?")
        if not (tasks := [_task(row, path) for row in rows]):
            raise InputError(f"{path} holds no task; fetch the file again")
        return tasks


def _task(row: dict[str, str], path: Path) -> Task:
    try:
        question, answer = (decode(row[name], row["canary"]) for name in ("prompt", "answer"))
    except (ValueError, binascii.Error) as reason:
        raise InputError(f"{path}: row {row['id']} cannot be decoded ({reason}); fetch the file again") from None
    return Task(task_id=f"xbench-{row['id']}", question=question, answer=answer, level=1, source="xbench")
