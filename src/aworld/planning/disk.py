"""Bytes that a run leaves on the shared file system."""

from dataclasses import dataclass

from aworld.config import Config
from aworld.planning.shapes import BYTES, parameters
from aworld.planning.time import CHECKPOINT_BYTES
from aworld.training.position import KEEP

TRAJECTORY_BYTES = 4 + 1 + 4  # of a token in trajectories.h5: its id, mask and log-probability
JOURNAL_BYTES = TRAJECTORY_BYTES + 4  # of a token in a journal: the same, and its text
EPISODE_BYTES = 2000  # of an episode beside its tokens: names, times, calls


@dataclass(frozen=True)
class Kept:
    """What one kind of file takes: bytes of one, and how many the run holds in the end."""

    name: str
    each: float
    count: int

    @property
    def total(self) -> float:
        return self.each * self.count


def disk(config: Config, tokens: float, evaluated: float, evaluations: int) -> list[Kept]:
    """What the run keeps. Policies and journals stay until someone removes them; of checkpoints the newest few do.

    Args:
        tokens: of a round.
        evaluated: tokens of one evaluation.
    """
    size, rounds = parameters(config.model.architecture), config.pipeline.rounds
    dtype = config.model.dtype
    episodes = config.rollout.tasks_per_round * config.rollout.group_size * EPISODE_BYTES
    return [
        Kept("policy", BYTES[dtype] * size, rounds + (config.training.cold_start.tasks > 0)),
        Kept("checkpoint", CHECKPOINT_BYTES[dtype] * size, min(rounds, KEEP) + 1),  # one more while it is written
        Kept("trajectories", TRAJECTORY_BYTES * tokens, rounds),
        Kept("journals of a round", JOURNAL_BYTES * tokens + episodes, rounds),
        Kept("journals of an evaluation", JOURNAL_BYTES * evaluated, evaluations),
    ]
