"""Which checkpoints there are, by name. Imports nothing heavy: a launcher asks as well."""

import re
import shutil
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path

from aworld.publish import MARK, is_complete, is_idle

KEEP = 3


@total_ordering
@dataclass(frozen=True)
class Position:
    """How far training is: `step` optimizer steps of a round are made; None: the round is over."""

    round: int
    step: int | None = None

    @property
    def name(self) -> str:
        return f"round-{self.round:04d}" + ("" if self.step is None else f"-step-{self.step:06d}")

    def __lt__(self, other: "Position") -> bool:
        def order(p: Position) -> tuple[int, bool, int]:
            return p.round, p.step is None, p.step or 0

        return order(self) < order(other)


def positions(folder: Path) -> list[Position]:
    """Of all complete checkpoints, in order."""
    found = []
    for path in folder.glob("round-*"):
        name = re.fullmatch(r"round-(\d+)(?:-step-(\d+))?", path.name)
        if name and is_complete(path):
            found.append(Position(int(name[1]), int(name[2]) if name[2] else None))
    return sorted(found)


def prune(folder: Path, written: Position) -> None:
    """Remove all checkpoints up to `written`, which is there now, but the last few; and what is left of torn ones.

    Later ones stay: they are there where an earlier round is trained again, and the run goes on from them.
    """
    for old in [position for position in positions(folder) if position <= written][:-KEEP]:
        (folder / old.name / MARK).unlink()  # first, so that a removal cut short leaves a torn one
        shutil.rmtree(folder / old.name)
    for path in folder.glob("round-*"):
        if not is_complete(path) and is_idle(path):
            shutil.rmtree(path, ignore_errors=True)
