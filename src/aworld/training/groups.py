"""The groups of a round, the attempts at one task each: how many have spread, and the trajectories of those."""

import numpy as np

from aworld.config import Training
from aworld.trajectories.arrays import TrajectorySource, lost


def count(trajectories: TrajectorySource, stalled_share: float = Training.stalled_share) -> dict[str, int]:
    """The number of `groups`, and of `groups_of_one_reward`, from which nothing is learned.

    Attempts that were lost to the machine are in no group.
    """
    low, high, _ = _rewards(trajectories, stalled_share)
    return {"groups": int((low <= high).sum()), "groups_of_one_reward": int((low == high).sum())}


def with_spread(trajectories: TrajectorySource, stalled_share: float) -> TrajectorySource:
    """The trajectories without the groups of one reward: DAPO (arXiv 2503.14476), section 3.2.

    Attempts that were lost to the machine stay in their group, and do not tell whether it has spread.
    """
    low, high, group = _rewards(trajectories, stalled_share)
    return trajectories.select(np.flatnonzero((low < high)[group]))


def _rewards(trajectories: TrajectorySource, stalled_share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lowest and the highest reward of each task, [tasks], and the task of each episode, int64 [E].

    The lowest is above the highest where all attempts were lost to the machine.
    """
    table = trajectories.episodes
    counts = ~lost(table, stalled_share)
    names, task = np.unique(table["task_id"], return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, task[counts], table["reward"][counts])
    np.maximum.at(high, task[counts], table["reward"][counts])
    return low, high, task
