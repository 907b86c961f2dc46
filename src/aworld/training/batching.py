"""From a round's trajectories to optimizer steps. Everything follows from (trajectories, seed, epoch)."""

from dataclasses import dataclass

import numpy as np
import torch

from aworld.training.algorithms import Algorithm, MicroBatch
from aworld.trajectories.file import Trajectories

# What happened to these is the machine's doing, not the policy's.
NOT_TRAINED = (b"timeout", b"infra_error", b"tool_error")
# Lengths are padded to a multiple of it: sequence parallelism over up to as many ranks, and aligned kernels.
LENGTH_MULTIPLE = 8


@dataclass(frozen=True)
class Step:
    """One optimizer step, as the whole world sees it: per data-parallel rank as many micro-batches, of episode indices.

    Attributes:
        episodes: [rank][micro-batch] → indices of episodes; empty where a rank has less to do than another.
        advantages: float64 [E].
        weights: float64 [E], the weight of a sampled token of each episode in the loss.
    """

    episodes: list[list[np.ndarray]]
    advantages: np.ndarray
    weights: np.ndarray


def advantages(trajectories: Trajectories, algorithm: Algorithm) -> np.ndarray:
    """Advantage of each episode, float64 [E]; NaN for one that is not trained.

    Groups are the episodes of one task; those that were lost to the machine or sampled nothing are in no group.
    """
    table = trajectories.episodes
    result = np.full(len(table), np.nan)
    usable = ~np.isin(table["status"], NOT_TRAINED) & (sampled_tokens(trajectories) > 0)
    for task in np.unique(table["task_id"][usable]):
        group = np.flatnonzero(usable & (table["task_id"] == task))
        result[group] = algorithm.advantages(table["reward"][group])
    if not algorithm.counts_zero_advantage:
        result[result == 0] = np.nan
    return result


def sampled_tokens(trajectories: Trajectories) -> np.ndarray:
    """Tokens the policy sampled in each episode and that have a predecessor, int64 [E]."""
    mask = trajectories.mask.astype(np.int64)
    starts = trajectories.offsets[:-1]
    nonempty = starts < trajectories.offsets[1:]
    mask[starts[nonempty]] = 0
    return np.diff(np.concatenate([[0], np.cumsum(mask)])[trajectories.offsets])


def steps(
    trajectories: Trajectories,
    algorithm: Algorithm,
    *,
    batch_size: int,
    micro_batch_size: int,
    max_tokens: int,
    data_parallel: int,
    seed: tuple[int, ...],
) -> list[Step]:
    """The optimizer steps of one pass, in order.

    Episodes are shuffled by `seed` and cut into as many steps as `batch_size` asks, equal up to one episode. An
    episode of zero advantage counts in its step's normalisation and is not computed; a step of only such is left out.

    Args:
        max_tokens: sampled tokens an episode may have (the `constant` normalisation).
        data_parallel: ranks that share each step's micro-batches.
    """
    advantage = advantages(trajectories, algorithm)
    tokens = sampled_tokens(trajectories)
    lengths = np.diff(trajectories.offsets)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(advantage)))
    found = []
    for batch in np.array_split(order, max(1, -(-len(order) // batch_size))):
        active = batch[advantage[batch] != 0]
        if not len(active):
            continue
        weights = np.zeros(len(lengths))
        match algorithm.normalisation:
            case "token":
                weights[batch] = 1 / tokens[batch].sum()
            case "sequence":
                weights[batch] = 1 / (len(batch) * tokens[batch])
            case "constant":
                weights[batch] = 1 / (len(batch) * max_tokens)
        # Sorted by length, a micro-batch holds little padding, and those that ranks do at one time take as long.
        active = active[np.argsort(-lengths[active], kind="stable")]
        cuts = [active[at : at + micro_batch_size] for at in range(0, len(active), micro_batch_size)]
        cuts += [active[:0]] * (-len(cuts) % data_parallel)
        found.append(Step([cuts[rank::data_parallel] for rank in range(data_parallel)], advantage, weights))
    return found


def micro_batches(trajectories: Trajectories, step: Step, rank: int, device: torch.device) -> list[MicroBatch]:
    """The tensors of one data-parallel rank's share of a step."""
    return [pad(trajectories, cut, step.advantages, step.weights, device) for cut in step.episodes[rank]]


def pad(
    trajectories: Trajectories, episodes: np.ndarray, advantage: np.ndarray, weights: np.ndarray, device: torch.device
) -> MicroBatch:
    """Episodes, each up to its last sampled token, padded to the longest; of none at all, a token that weighs nothing.

    Args:
        episodes: indices; each has a sampled token.
        advantage, weights: float64 [E], of all episodes.
    """
    rows = []
    for episode in episodes:
        begin, end = trajectories.offsets[episode : episode + 2]
        rows.append(slice(begin, begin + np.flatnonzero(trajectories.mask[begin:end])[-1] + 1))
    longest = max([row.stop - row.start - 1 for row in rows], default=1)
    shape = (max(len(rows), 1), -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    tokens = np.zeros((shape[0], shape[1] + 1), np.int64)
    sampled = np.zeros(shape, bool)
    logprobs = np.zeros(shape, np.float32)
    weight = np.zeros(shape, np.float32)
    per_row = np.zeros((shape[0], 1), np.float32)
    if not rows:
        sampled[0, 0] = True  # collectives on no data at all are not portable
    for i, (row, episode) in enumerate(zip(rows, episodes, strict=True)):
        n = row.stop - row.start - 1
        tokens[i, : n + 1] = trajectories.tokens[row]
        sampled[i, :n] = trajectories.mask[row][1:]
        logprobs[i, :n] = np.where(sampled[i, :n], trajectories.logprobs[row][1:], 0)
        weight[i] = sampled[i] * weights[episode]
        per_row[i] = advantage[episode]
    return MicroBatch(*(torch.from_numpy(a).to(device) for a in (tokens, sampled, logprobs, per_row, weight)))
