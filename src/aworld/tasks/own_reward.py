"""The user's own reward, as a `Program` of `task.py`: `own_reward.py FILE NAME`.

It runs in a sandbox without a network and without the rest of aworld. NAME in FILE is called as `NAME(episode, task)`
and returns a number from 0 to 1, or a dict with such a number as `reward`; the dict's other numbers are recorded.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_OUTPUT = 1 << 20  # bytes of stdout, and of stderr, that are read


@dataclass(frozen=True)
class Ran:
    """A program that ran.

    Attributes:
        exit_status: 0 where it succeeded; below 0: the signal that ended it; None: it took too long.
        stdout, stderr: at most 1 MiB of each.
    """

    exit_status: int | None
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Turn:
    """One turn of an episode.

    Attributes:
        role: `prompt`, `assistant` or `tool`.
        text: what was said, or the tool's result.
        tool, arguments: of a call (role `tool`).
        is_error: the result is an error; of an assistant's turn: it was not finished.
        seconds: that it took.
        began: seconds since the episode's begin.
        context: index of the context that it belongs to.
    """

    role: str
    text: str
    tool: str | None
    arguments: dict[str, Any] | None
    is_error: bool
    seconds: float
    began: float
    context: int


@dataclass(frozen=True)
class Episode:
    """An episode.

    Attributes:
        answer: the final answer; None: there is none.
        status: answered, no_answer, max_turns, max_tokens, repeated or timeout.
        error: the reason of a timeout.
        seconds: by phase; `total` is all.
        turns: in order.
        tokens: that the policy sampled.
        folder: the files that the episode left, its attachments among them. They may be changed and run.
    """

    round: int
    attempt: int
    answer: str | None
    status: str
    error: str
    seconds: dict[str, float]
    turns: list[Turn]
    tokens: int
    folder: Path

    @property
    def calls(self) -> list[Turn]:
        """The turns that are calls of tools, with their results."""
        return [turn for turn in self.turns if turn.role == "tool"]

    @property
    def files(self) -> list[Path]:
        """The files in `folder`."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def run(self, command: Sequence[str], seconds: float = 60.0, stdin: str = "") -> Ran:
        """Run a program that the policy wrote: in `folder`, and in a process that cannot reach the score.

        Code that runs in the process of the score, by exec or import, can set the score.
        """
        place = self.folder.parent
        (place / "stdin").write_text(stdin)
        with open(place / "stdin") as given, open(place / "stdout", "wb") as out, open(place / "stderr", "wb") as err:
            program = subprocess.Popen(
                command, cwd=self.folder, stdin=given, stdout=out, stderr=err, start_new_session=True
            )
        status = None
        try:
            with suppress(subprocess.TimeoutExpired):
                status = program.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        return Ran(status, *(_head(place / name) for name in ("stdout", "stderr")))


@dataclass(frozen=True)
class Task:
    """The task.

    Attributes:
        answer: the gold answer; None: there is none.
        files: names of its attachments.
        metadata: of its row.
    """

    task_id: str
    question: str
    answer: str | None
    level: int
    files: list[str]
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)


def _head(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(MOST_OUTPUT).decode(errors="replace")


def score(request: dict[str, Any]) -> Any:
    """What the user's function returns."""
    turns = [Turn(**turn) for turn in request["episode"].pop("turns")]
    folder = Path("files").absolute()
    folder.mkdir(exist_ok=True)
    return reward(Episode(**request["episode"], turns=turns, folder=folder), Task(**request["task"]))


if __name__ == "<run_path>":  # the server imports it so; its arguments name the file
    reward = runpy.run_path(sys.argv[1])[sys.argv[2]]
