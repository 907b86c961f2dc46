"""The checkpoints of a run, by their names. A launcher imports this: nothing heavy here."""

import re
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path

from aworld.publish import is_complete


@total_ordering
@dataclass(frozen=True)
class Position:
    """How far training is.

    Attributes:
        round: the round that is trained.
        step: how many of its optimizer steps are made; None: all of them.
    """

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
    """The positions of all complete checkpoints in a folder, in order."""
    found = []
    for path in folder.glob("round-*"):
        name = re.fullmatch(r"round-(\d+)(?:-step-(\d+))?", path.name)
        if name and is_complete(path):
            found.append(Position(int(name[1]), int(name[2]) if name[2] else None))
    return sorted(found)
