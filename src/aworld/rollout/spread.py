"""Dynamic sampling: DAPO (arXiv 2503.14476), section 3.2.

Attempts at a task that all have one reward teach nothing. Such a group does not count, and the round goes on to another
task in its place. Workers have no controller: each of them finds the same units in play from the marks of the claims.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # claims.py imports this file
    from aworld.rollout.claims import Unit


def has_spread(rewards: Iterable[float | None]) -> bool:
    """Whether the attempts at a task have more than one reward. None: the attempt was lost to the machine."""
    return len(set(rewards) - {None}) > 1


def in_play(units: Iterable[Unit], enough: int, of_one_reward: Container[str], begun: Container[str]) -> Iterator[Unit]:
    """The units that a round plays, so far as is known, in the given order.

    They are the shortest beginning of the order in which `enough` units have spread, or may still turn out to have it;
    and each unit that was begun. An outcome adds units and takes none away. So a worker with an old view of the marks
    begins no unit that the others do not wait for, and the result depends on the rewards alone, not on the order in
    which the units end.

    Args:
        of_one_reward: the keys of units that are known to have no spread.
        begun: the keys of units that were ever claimed.
    """
    hopeful = 0  # units so far that have spread or may have it
    for unit in units:
        if hopeful < enough or unit.key in begun:
            yield unit
        hopeful += unit.key not in of_one_reward
