"""From a round's trajectories to optimizer steps, as a function of (trajectories, seed, epoch) alone."""

from dataclasses import dataclass

import numpy as np
import torch

from aworld.config import Training
from aworld.training.algorithms import Algorithm, Group
from aworld.training.micro_batch import MicroBatch
from aworld.trajectories.arrays import Trajectories

# Lengths are padded to a multiple of this, for aligned kernels and sequence parallelism over up to so many ranks.
LENGTH_MULTIPLE = 8


@dataclass(frozen=True)
class Step:
    """One optimizer step of all data-parallel ranks. Every rank has the same number of micro-batches.

    The model sees each context as a sequence of its own; advantage and weight are those of its episode.

    Attributes:
        contexts: [rank][micro-batch] → indices of contexts; empty where a rank has less to do than another.
        advantages: float64 [C].
        weights: float64 [C], the weight of a sampled token of each context in the loss.
    """

    contexts: list[list[np.ndarray]]
    advantages: np.ndarray
    weights: np.ndarray


def lost(table: np.ndarray, stalled_share: float) -> np.ndarray:
    """Whether each episode was lost to the machine, bool [E].

    An episode that ran out of time is lost if more than `stalled_share` of its time was lost to the engine or a tool.
    Else the policy spent the time.

    Args:
        table: the `episodes` of trajectories, [E].
    """
    stalled = table["seconds_stalled"] > stalled_share * table["seconds_total"]
    return (table["status"] == b"infra_error") | ((table["status"] == b"timeout") & stalled)


def advantages(
    trajectories: Trajectories, algorithm: Algorithm, stalled_share: float = Training.stalled_share
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


def groups(trajectories: Trajectories, stalled_share: float = Training.stalled_share) -> dict[str, int]:
    """The number of `groups`, and of `groups_of_one_reward`, from which nothing is learned.

    Attempts that were lost to the machine are in no group.
    """
    table = trajectories.episodes[~lost(trajectories.episodes, stalled_share)]
    rewards = table["reward"]
    names, of = np.unique(table["task_id"], return_inverse=True)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, of, rewards)
    np.maximum.at(high, of, rewards)
    return {"groups": len(names), "groups_of_one_reward": int((low == high).sum())}


def sampled_tokens(trajectories: Trajectories) -> np.ndarray:
    """The number of tokens in each episode that were sampled and have a predecessor in their context, int64 [E]."""
    return np.diff(_count(trajectories)[trajectories.offsets])


def _count(trajectories: Trajectories) -> np.ndarray:
    """The number of sampled tokens with a predecessor before each token, and in all: int64 [N + 1]."""
    mask = trajectories.mask.astype(np.int64)
    begins, ends, _ = trajectories.spans()
    mask[begins[begins < ends]] = 0
    return np.concatenate([[0], np.cumsum(mask)])


def steps(
    trajectories: Trajectories,
    algorithm: Algorithm,
    *,
    batch_size: int,
    micro_batch_size: int,
    max_tokens: int,
    data_parallel: int,
    seed: tuple[int, ...],
    stalled_share: float = Training.stalled_share,
) -> list[Step]:
    """The optimizer steps of one pass, in order.

    Episodes are shuffled by `seed` and cut into steps of at most `batch_size`, equal up to one episode. An episode of
    zero advantage counts in the normalisation of its step, but is not computed. A step of only such is left out.

    Args:
        micro_batch_size: contexts in a micro-batch.
        max_tokens: the limit of sampled tokens in an episode, for the `constant` normalisation.
        data_parallel: number of ranks that share each step's micro-batches.
    """
    advantage = advantages(trajectories, algorithm, stalled_share)
    tokens = sampled_tokens(trajectories)
    begins, ends, owner = trajectories.spans()
    lengths, count = ends - begins, _count(trajectories)
    speaks = count[ends] > count[begins]
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(advantage)))
    found = []
    for batch in np.array_split(order, max(1, -(-len(order) // batch_size))):
        active = batch[advantage[batch] != 0]
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
        # Sorted by length: a micro-batch holds little padding, and micro-batches of one time take equally long.
        contexts = np.concatenate([np.arange(*trajectories.context_offsets[e : e + 2]) for e in active])
        contexts = contexts[speaks[contexts]]
        contexts = contexts[np.argsort(-lengths[contexts], kind="stable")]
        cuts = [contexts[at : at + micro_batch_size] for at in range(0, len(contexts), micro_batch_size)]
        cuts += [contexts[:0]] * (-len(cuts) % data_parallel)
        by_rank = [cuts[rank::data_parallel] for rank in range(data_parallel)]
        found.append(Step(by_rank, advantage[owner], weights[owner]))
    return found


def micro_batches(trajectories: Trajectories, step: Step, rank: int, device: torch.device) -> list[MicroBatch]:
    """The tensors of one data-parallel rank's share of a step."""
    return [pad(trajectories, cut, step.advantages, step.weights, device) for cut in step.contexts[rank]]


def pad(
    trajectories: Trajectories, contexts: np.ndarray, advantage: np.ndarray, weights: np.ndarray, device: torch.device
) -> MicroBatch:
    """The micro-batch of some contexts, each cut behind its last sampled token and padded to the longest.

    Without contexts it holds one token of weight 0.

    Args:
        contexts: indices of contexts, each with a sampled token.
        advantage, weights: float64 [C], of all contexts.
    """
    rows = []
    begins, ends, _ = trajectories.spans()
    for begin, end in zip(begins[contexts], ends[contexts], strict=True):
        rows.append(slice(begin, begin + np.flatnonzero(trajectories.mask[begin:end])[-1] + 1))
    longest = max([row.stop - row.start - 1 for row in rows], default=1)
    shape = (max(len(rows), 1), -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    tokens = np.zeros((shape[0], shape[1] + 1), np.int64)
    sampled = np.zeros(shape, bool)
    logprobs = np.zeros(shape, np.float32)
    weight = np.zeros(shape, np.float32)
    per_row = np.zeros((shape[0], 1), np.float32)
    if not rows:
        sampled[0, 0] = True  # collectives on empty tensors are not portable
    for i, (row, context) in enumerate(zip(rows, contexts, strict=True)):
        n = row.stop - row.start - 1
        tokens[i, : n + 1] = trajectories.tokens[row]
        sampled[i, :n] = trajectories.mask[row][1:]
        logprobs[i, :n] = np.where(sampled[i, :n], trajectories.logprobs[row][1:], 0)
        weight[i] = sampled[i] * weights[context]
        per_row[i] = advantage[context]
    return MicroBatch(*(torch.from_numpy(a).to(device) for a in (tokens, sampled, logprobs, per_row, weight)))
