"""Tasks, their sources, and the programs that score answers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aworld.errors import InfrastructureError, InputError

MOST_PARTS = 32  # of a reward
LFS_POINTER = b"version https://git-lfs"


class Undecided(InfrastructureError):  # noqa: N818
    """This answer could not be scored; others may be."""


@dataclass(frozen=True)
class Container:
    """What the agent of a task works in, and what tests its work.

    Attributes:
        image: of Apptainer: a file, or a folder.
        workdir: the working folder inside.
        env: variables of all that runs inside.
        tests: a folder that is seen at /tests once the agent has ended. Its test.sh writes the reward to
            /logs/verifier/reward.txt, or a JSON object of numbers to reward.json.
        test_env: variables of the test.
        test_seconds: limit of the test.
        solution: a folder with solve.sh, after which the test has to give 1; None: there is none.
    """

    image: Path
    workdir: str
    tests: Path
    env: dict[str, str] = field(default_factory=dict)
    test_env: dict[str, str] = field(default_factory=dict)
    test_seconds: float = 600.0
    solution: Path | None = None


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
        container: of the task's own; None: the agent works in the site's sandbox.
        seconds: limit of an episode, below that of the agent; None: it has none of its own.
        needs_gold: whether its reward decides by the gold answer.
    """

    task_id: str
    question: str
    answer: str | None
    level: int
    files: tuple[Path, ...] = ()
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    container: Container | None = None
    seconds: float | None = None
    needs_gold: bool = True

    @property
    def is_withheld(self) -> bool:
        """Whether nothing here decides about an answer: the gold answer is kept elsewhere, and the reward
        needs it."""
        return self.answer is None and self.container is None and self.needs_gold


def check_fetched(path: Path) -> None:
    """Check that a file holds its content.

    Raises:
        InputError: it is a pointer of Git LFS, which a clone without LFS leaves in the file's place.
    """
    with open(path, "rb") as f:
        if f.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InputError(f"{path} is a pointer of Git LFS, not the file itself; fetch it: git lfs pull")


@dataclass(frozen=True)
class Worth:
    """What an episode is worth.

    Attributes:
        reward: 0 to 1.
        parts: what it is made of, by name; recorded with the episode, and not trained on.
    """

    reward: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A program that scores an answer which has to be executed or parsed, or the user's own reward.

    It runs in a sandbox.

    Attributes:
        file: a Python file with a function `score(request) -> float | dict`. It may import the packages of this
            Python, and nothing of aworld.
        request: what `score` gets, as JSON.
        arguments: of the file, in `sys.argv`.
        reads: further files that it sees.
        seconds: limit of one call; None: `environment.call_seconds`.
        folder: is moved to `files` in its working folder, and gone afterwards.
        has_to_score: a call that fails or takes longer raises Undecided; otherwise it is worth 0.
        python: of a virtual environment whose packages the file needs; empty: that of the worker.
    """

    file: Path
    request: dict[str, Any]
    arguments: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()
    seconds: float | None = None
    folder: Path | None = None
    has_to_score: bool = False
    python: str = ""


@dataclass(frozen=True)
class Verification:
    """The test of a task's container, on what an episode left in it.

    Attributes:
        folder: with the episode's files; it is used up.
    """

    container: Container
    folder: Path


Given = float | dict[str, float] | Program | Verification  # by a scorer


class TaskSource(Protocol):
    """A benchmark or a generator of tasks, and the scorer that decides whether an answer is right."""

    corpus: Path | None  # JSONL of {"title", "text"} that the search tool answers from

    def tasks(self, split: str) -> Iterable[Task]:
        """The tasks of split `train` or `held_out`, in a fixed order."""
        ...

    def score(self, answer: str | None, task: Task) -> "Given":
        """The worth of an answer, as `worth_of` reads it; 0 where the gold answer is withheld.

        Not called without an answer. It runs in the worker, so it executes nothing of an answer: for that it returns a
        Program.

        Raises:
            Undecided: this answer could not be scored.
            InfrastructureError: no answer can be scored, because the judge is away.
        """
        ...


@runtime_checkable
class EpisodeSource(Protocol):
    """A source whose reward needs more than the answer: `reward`, as a TaskSet's, in the place of `score`."""

    corpus: Path | None

    def tasks(self, split: str) -> Iterable[Task]: ...

    def reward(self, episode: "Played", task: Task, folder: Path | None) -> "Given": ...


class Played(Protocol):
    """An episode, as a reward sees it: `aworld.trajectories.episode.Episode`."""

    @property
    def round(self) -> int: ...

    @property
    def attempt(self) -> int: ...

    @property
    def answer(self) -> str | None: ...

    @property
    def status(self) -> str: ...

    @property
    def error(self) -> str: ...

    @property
    def seconds(self) -> dict[str, float]: ...

    @property
    def turns(self) -> Sequence[Any]: ...

    @property
    def mask(self) -> list[int]: ...


class TaskSet(Protocol):
    """The tasks of a run, and what an episode is worth: a source with its reward.

    Attributes:
        corpus: as the source's.
        reads_files: whether the reward wants the files that an episode left.
    """

    corpus: Path | None
    reads_files: bool

    def tasks(self, split: str) -> Iterable[Task]:
        """As the source's."""

    def reward(self, episode: Played, task: Task, folder: Path | None) -> "Given":
        """What an episode is worth, as `worth_of` reads it.

        Args:
            folder: the files that the episode left; None: they were not kept.

        Raises:
            Undecided, InfrastructureError: as the source's `score`.
        """


def worth_of(given: Any, scorer: str) -> Worth:
    """The worth that a scorer gave: a number from 0 to 1, or a dict with such a number as `reward`, and its parts.

    Raises:
        Undecided: it is none.
    """
    values = given if isinstance(given, dict) else {"reward": given}
    if "reward" not in values:
        raise Undecided(f"{scorer} gave a dict without 'reward', with {', '.join(map(str, values)) or 'nothing'}")
    if len(values) > MOST_PARTS:
        raise Undecided(f"{scorer} gave {len(values)} parts; {MOST_PARTS} is the most")
    for name, value in values.items():
        if not _is_finite(value):
            raise Undecided(f"{scorer} gave {value!r:.100} as {name!r:.100}, which is no finite number")
    parts = {str(name): float(value) for name, value in values.items()}
    reward = parts.pop("reward")
    if not 0.0 <= reward <= 1.0:
        raise Undecided(f"{scorer} gave {reward!r}, which is not from 0 to 1")
    return Worth(reward, parts)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # an int above all floats
        return False
