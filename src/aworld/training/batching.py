"""From a round's trajectories to optimizer steps, as a function of (trajectories, seed, epoch) alone."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from aworld.config import Training
from aworld.training.algorithms import Algorithm, Group
from aworld.training.micro_batch import MicroBatch
from aworld.training.packing import Inputs, Split, pack
from aworld.trajectories.arrays import TrajectorySource, lost, offsets_of


@dataclass(frozen=True)
class Step:
    """One optimizer step of all data-parallel ranks. Every rank has the same number of micro-batches.

    The model sees each context as a sequence of its own; advantage and weight are those of its episode.

    Attributes:
        inputs: those of all contexts.
        contexts: [rank][micro-batch] → indices of contexts; empty where a rank has less to do than another.
        advantages: float64 [C].
        weights: float64 [C], the weight of a sampled token of each context in the loss.
    """

    inputs: Inputs
    contexts: list[list[np.ndarray]]
    advantages: np.ndarray
    weights: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each context that the model computes, int64 [n]."""
        cuts = [cut for of_rank in self.contexts for cut in of_rank]
        return self.inputs.lengths[np.concatenate([np.zeros(0, np.int64), *cuts])]


def advantages(
    trajectories: TrajectorySource, algorithm: Algorithm, stalled_share: float = Training.stalled_share
) -> np.ndarray:
    """The advantage of each episode, float64 [E]; NaN for one that is not trained.

    A group holds the episodes of one task, without those that were lost to the machine or sampled nothing.
    """
    table, lengths = trajectories.episodes, sampled_tokens(trajectories)
    result = np.full(len(table), np.nan)
    usable = ~lost(table, stalled_share) & (lengths > 0)
    members = [np.flatnonzero(usable & (table["task_id"] == task)) for task in np.unique(table["task_id"][usable])]
    groups = [Group(table["reward"][rows], lengths[rows], table["status"][rows].astype(str)) for rows in members]
    for rows, values in zip(members, algorithm.advantages(groups), strict=True):
        result[rows] = values
    if not algorithm.counts_zero_advantage:
        result[result == 0] = np.nan
    return result


def sampled_tokens(trajectories: TrajectorySource) -> np.ndarray:
    """The number of tokens in each episode that were sampled and have a predecessor in their context, int64 [E]."""
    return np.diff(offsets_of(trajectories.sequences["sampled"])[trajectories.context_offsets])


def steps(
    trajectories: TrajectorySource,
    algorithm: Algorithm,
    *,
    batch_size: int,
    micro_batch_tokens: int,
    max_tokens: int,
    data_parallel: int,
    seed: tuple[int, ...],
    stalled_share: float = Training.stalled_share,
) -> list[Step]:
    """The optimizer steps of one pass, in order.

    Episodes are shuffled by `seed` and cut into steps of at most `batch_size`, equal up to one episode. An episode of
    zero advantage counts in the normalisation of its step, but is not computed where it has no loss. A step without a
    loss is left out.

    Args:
        micro_batch_tokens: the most tokens in a micro-batch; a longer context has one of its own.
        max_tokens: the limit of sampled tokens in an episode, for the `constant` normalisation.
        data_parallel: number of ranks that share each step's micro-batches.
    """
    advantage = advantages(trajectories, algorithm, stalled_share)
    tokens = sampled_tokens(trajectories)
    inputs, owner = Inputs.of(trajectories), trajectories.spans()[2]
    lengths = inputs.lengths
    has_loss_without_advantage = algorithm.needs_reference or algorithm.entropy_has_gradient
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(advantage)))
    found = []
    for batch in np.array_split(order, max(1, -(-len(order) // batch_size))):
        active = batch if has_loss_without_advantage else batch[advantage[batch] != 0]
        if not len(active):
            continue
        weights = np.zeros(len(tokens))
        match algorithm.normalisation:
            case "token":
                weights[batch] = 1 / tokens[batch].sum()
            case "sequence":
                weights[batch] = 1 / (len(batch) * tokens[batch])
            case "constant":
                weights[batch] = 1 / (len(batch) * max_tokens)
        contexts = trajectories.contexts_of(active)
        contexts = contexts[lengths[contexts] > 0]
        shares = deal(lengths[contexts], micro_batch_tokens, data_parallel)
        by_rank = [[contexts[share] for share in of_rank] for of_rank in shares]
        found.append(Step(inputs, by_rank, advantage[owner], weights[owner]))
    return found


def deal(lengths: np.ndarray, most: int, ranks: int) -> list[list[np.ndarray]]:
    """Sequences dealt to the micro-batches of each rank: [rank][micro-batch] → indices, equally many on every rank.

    A sequence of `most` tokens or more has a micro-batch of its own. The others share few of up to `most` tokens, about
    equally long: the longest goes first, to the shortest micro-batch. Micro-batches that ranks compute at the same time
    are neighbours in length.

    Args:
        lengths: int64 [n], in tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    alone, others = order[lengths[order] >= most], order[lengths[order] < most]
    count = -(-int(lengths[others].sum()) // most)
    while True:
        count += -(len(alone) + count) % ranks
        loads = [(0, number) for number in range(count)]
        shared: list[list[int]] = [[] for _ in range(count)]
        for index in others:
            load, number = heapq.heappop(loads)
            shared[number].append(int(index))
            heapq.heappush(loads, (load + int(lengths[index]), number))
        if max((load for load, _ in loads), default=0) <= most:
            break
        count += 1
    dealt = [np.array([index]) for index in alone]
    dealt += [np.array(shared[number], int) for _, number in sorted(loads, reverse=True)]
    return [dealt[rank::ranks] for rank in range(ranks)]


class MicroBatches(Sequence[MicroBatch]):
    """The micro-batches of some cuts, each read and packed when it is asked for: a round's tokens are never all there.

    Args:
        cuts: the contexts of each micro-batch.
        advantages, weights: float64 [C], of all contexts.
        reference: float32 [N], the log-probabilities (nats) of all tokens under the reference policy.
    """

    def __init__(
        self,
        trajectories: TrajectorySource,
        inputs: Inputs,
        cuts: Sequence[np.ndarray],
        advantages: np.ndarray,
        weights: np.ndarray,
        split: Split,
        device: torch.device,
        reference: np.ndarray | None = None,
    ):
        self.cuts = cuts
        self._pack = partial(
            pack,
            trajectories,
            inputs,
            advantages=advantages,
            weights=weights,
            split=split,
            device=device,
            reference=reference,
        )

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: Any) -> Any:
        return self._pack(self.cuts[index])

    def empty(self) -> MicroBatch:
        """One without a context, as short as it can be; its loss is 0."""
        return self._pack(np.zeros(0, int))


def micro_batches(
    trajectories: TrajectorySource,
    step: Step,
    rank: int,
    split: Split,
    device: torch.device,
    reference: np.ndarray | None = None,
) -> MicroBatches:
    """The micro-batches of one data-parallel rank's share of a step.

    Args:
        reference: float32 [N], the log-probabilities (nats) of all tokens under the reference policy.
    """
    cuts = step.contexts[rank]
    return MicroBatches(trajectories, step.inputs, cuts, step.advantages, step.weights, split, device, reference)
