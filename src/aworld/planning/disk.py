"""Bytes that a run leaves on the shared file system."""

from dataclasses import dataclass

from aworld.config import Config, Keep
from aworld.planning.shapes import BYTES, parameters
from aworld.planning.time import CHECKPOINT_BYTES

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
    """What the run keeps. Journals stay until someone removes them; policies and checkpoints as `pipeline.keep_…` says.

    Args:
        tokens: of a round.
        evaluated: tokens of one evaluation.
    """
    size, rounds = parameters(config.model.architecture), config.pipeline.rounds
    dtype = config.model.dtype
    episodes = config.rollout.tasks_per_round * config.rollout.group_size * EPISODE_BYTES
    return [
        Kept("policy", BYTES[dtype] * size, _policies(config)),
        # one more while it is written
        Kept("checkpoint", CHECKPOINT_BYTES * size, len(_kept(config.pipeline.keep_checkpoints, rounds)) + 1),
        Kept("trajectories", TRAJECTORY_BYTES * tokens, rounds),
        Kept("journals of a round", JOURNAL_BYTES * tokens + episodes, rounds),
        Kept("journals of an evaluation", JOURNAL_BYTES * evaluated, evaluations),
    ]


def _policies(config: Config) -> int:
    """How many policies there are at the end of the run."""
    rounds, keep = config.pipeline.rounds, config.pipeline.keep_policies
    kept = _kept(keep, rounds) | ({*config.pipeline.evaluated} if keep.evaluated else set())
    first = {0} if config.training.cold_start.tasks else set()
    return len((kept - {0}) | first)


def _kept(keep: Keep, rounds: int) -> set[int]:
    """The rounds whose policy or checkpoint stays."""
    last = rounds if keep.last is None else min(rounds, keep.last)
    every = range(keep.every, rounds + 1, keep.every) if keep.every else ()
    return {*range(rounds - last + 1, rounds + 1), *every}
