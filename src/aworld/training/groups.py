"""The groups of a round that are trained on where rollout played further tasks in the place of some."""

import numpy as np

from aworld.training.batching import lost
from aworld.trajectories import arrays
from aworld.trajectories.arrays import Trajectories


def with_spread(trajectories: Trajectories, stalled_share: float) -> Trajectories:
    """The trajectories without the groups of one reward: DAPO (arXiv 2503.14476), section 3.2.

    Attempts that were lost to the machine stay in their group, and do not tell whether it has spread.
    """
    table = trajectories.episodes
    counts = ~lost(table, stalled_share)
    names, group = np.unique(table["task_id"], return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, group[counts], table["reward"][counts])
    np.maximum.at(high, group[counts], table["reward"][counts])
    return arrays.select(trajectories, np.flatnonzero((low < high)[group]))
