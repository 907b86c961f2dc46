"""Tasks, their sources, and the programs that score answers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aworld.errors import InfrastructureError, InputError

LFS_POINTER = b"version https://git-lfs"


class Undecided(InfrastructureError):  # noqa: N818
    """This answer could not be scored; others may be."""


@dataclass(frozen=True)
class Task:
    """One question in GAIA's shape.

    Attributes:
        task_id: unique within its source.
        question: what the agent reads.
        answer: the gold answer; never enters the agent or the sandbox. None where it is withheld.
        level: difficulty, 1 (easiest) to 3.
        files: attachments on disk, staged into the sandbox under their own names.
        source: name of the source the task comes from.
        metadata: whatever else the source knows; never shown to the agent.
    """

    task_id: str
    question: str
    answer: str | None
    level: int
    files: tuple[Path, ...] = ()
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def check_fetched(path: Path) -> None:
    """Check that a file holds its content.

    Raises:
        InputError: it is a pointer of Git LFS, which a clone without LFS leaves in the file's place.
    """
    with open(path, "rb") as f:
        if f.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InputError(f"{path} is a pointer of Git LFS, not the file itself; fetch it: git lfs pull")


@dataclass(frozen=True)
class Program:
    """A program that scores an answer which has to be executed or parsed.

    It runs in a sandbox, for at most `environment.call_seconds`. What fails there, or takes longer, is worth 0.

    Attributes:
        file: a Python file with a function `score(request) -> float`, 0 to 1. It may import the packages of this
            Python, and nothing of aworld.
        request: what `score` gets, as JSON.
    """

    file: Path
    request: dict[str, Any]


class TaskSource(Protocol):
    """A benchmark or a generator of tasks, and the scorer that decides whether an answer is right."""

    corpus: Path | None  # JSONL of {"title", "text"} that the search tool answers from

    def tasks(self, split: str) -> Iterable[Task]:
        """The tasks of split `train` or `held_out`, in a fixed order."""
        ...

    def score(self, answer: str | None, task: Task) -> "float | Program":
        """The reward of an answer, 0 to 1; 0 where the gold answer is withheld. Not called without an answer.

        It runs in the worker, so it executes nothing of an answer: for that it returns a Program.

        Raises:
            Undecided: this answer could not be scored.
            InfrastructureError: no answer can be scored, because the judge is away.
        """
        ...
