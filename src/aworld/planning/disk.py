"""Bytes that a run holds on the shared file system: in the end, and at most."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil

from aworld.config import Config, Keep
from aworld.planning.shapes import BYTES, parameters
from aworld.planning.time import CHECKPOINT_BYTES

TRAJECTORY_BYTES = 4 + 1 + 4  # of a token in trajectories.h5: its id, mask and log-probability
JOURNAL_BYTES = TRAJECTORY_BYTES + 4  # of a token in a journal: the same, and its text
EPISODE_BYTES = 2000  # of an episode beside its tokens: names, times, calls
DELTA_SHARE = 0.07  # of a whole policy in bfloat16: measured for three AdamW steps of 6e-6 on 118 M parameters


@dataclass(frozen=True)
class Evaluated:
    """The evaluations on one set of tasks.

    Attributes:
        name: held-out for the run's own tasks, else the benchmark's.
        tasks: how many, each with `attempts` attempts.
        times: how many policies are evaluated.
    """

    name: str
    tasks: int
    attempts: int
    times: int


@dataclass(frozen=True)
class Kept:
    """What one kind of file takes: bytes of one, how many there are in the end, and how many at the same time."""

    name: str
    each: float
    count: int
    most: int

    @property
    def total(self) -> float:
        return self.each * self.count


@dataclass(frozen=True)
class Disk:
    """What a run keeps, and the most bytes that it has at the same time."""

    kept: list[Kept]
    most: float

    @property
    def total(self) -> float:
        """Bytes in the end."""
        return sum(kept.total for kept in self.kept)


def disk(config: Config, tokens: float, evaluations: Sequence[tuple[Evaluated, float]]) -> Disk:
    """What the run keeps. Journals stay until someone removes them; policies and checkpoints as `pipeline.keep_…` says.

    Args:
        tokens: of a round.
        evaluations: each with the tokens of one of its times.
    """
    size, dtype, pipeline = parameters(config.model.architecture), config.model.dtype, config.pipeline
    whole, checkpoint = BYTES[dtype] * size, CHECKPOINT_BYTES * size
    names = ["policy", "policy as a delta", "checkpoint", "trajectories", "journals of a round"]
    episodes = played_tasks(config) * config.rollout.group_size * EPISODE_BYTES
    each = [whole, DELTA_SHARE * whole, checkpoint, TRAJECTORY_BYTES * tokens, JOURNAL_BYTES * tokens + episodes]
    for evaluation, evaluated in evaluations:
        names.append(f"journals of {evaluation.name}")
        each.append(JOURNAL_BYTES * evaluated + evaluation.tasks * evaluation.attempts * EPISODE_BYTES)
    peak, held = [0] * len(each), [0] * len(each)
    most, policies, checkpoints = 0.0, _first(config), set[int]()
    for number in range(1, pipeline.rounds + 1):
        begun = sum(version <= number for version in pipeline.evaluated)
        beside = [number, number, *(begun for _ in evaluations)]
        # the new policy and the new checkpoint are written before older ones go
        during = [*_kinds(config, policies | {number}), len(checkpoints | {number}), *beside]
        policies, checkpoints = _policies(config, policies | {number}), _kept(pipeline.keep_checkpoints, number)
        held = [*_kinds(config, policies), len(checkpoints), *beside]
        peak = [max(pair) for pair in zip(peak, during, strict=True)]
        most = max(most, sum(n * one for n, one in zip(during, each, strict=True)))
    rows = [Kept(*row) for row in zip(names, each, held, peak, strict=True)]
    return Disk([row for row in rows if row.most], most)


def played_tasks(config: Config) -> int:
    """Tasks that a round plays at most: with `rollout.oversample` some in the place of others."""
    return ceil(config.rollout.tasks_per_round * config.rollout.oversample)


def _first(config: Config) -> set[int]:
    """Policy 0, where the cold start makes it; else it holds links to the model that the run begins with."""
    return {0} if config.training.cold_start.is_on else set()


def _is_whole(config: Config, version: int) -> bool:
    """Whether a policy is written whole. Float32 changes in almost every value, and the first has no last values."""
    every = config.training.full_policy_every
    has_base = version > 1 or (version == 1 and config.training.cold_start.is_on)
    return config.model.dtype != "bfloat16" or version % every == 0 or not has_base


def _kinds(config: Config, versions: set[int]) -> tuple[int, int]:
    """How many of these policies are whole, and how many are deltas."""
    whole = sum(_is_whole(config, version) for version in versions)
    return whole, len(versions) - whole


def _policies(config: Config, there: set[int]) -> set[int]:
    """The policies that stay once the newest one is published: `training.retention.policies` decides it by the files.

    Each evaluation is taken to end before the next policy is there.
    """
    pipeline, newest = config.pipeline, max(there)
    stays = _kept(pipeline.keep_policies, newest) | _first(config)
    stays |= set(pipeline.evaluated) if pipeline.keep_policies.evaluated and pipeline.evaluations else set()
    older = pipeline.max_lag if newest < pipeline.rounds else 0  # that a round to come may play
    stays |= set(range(newest - older, newest + 1))
    for version in stays & there:
        stays |= {version - back for back in _back_to_whole(config, version)}
    return stays & there


def _back_to_whole(config: Config, version: int) -> range:
    """How far back the versions lie that a policy is made of, itself included."""
    return range(next(back for back in count() if _is_whole(config, version - back)) + 1)


def _kept(keep: Keep, rounds: int) -> set[int]:
    """The rounds whose policy or checkpoint stays by the rule, of so many rounds."""
    last = rounds if keep.last is None else min(rounds, keep.last)
    every = range(keep.every, rounds + 1, keep.every) if keep.every else ()
    return {*range(rounds - last + 1, rounds + 1), *every}
