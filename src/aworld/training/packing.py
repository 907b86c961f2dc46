"""Contexts of ragged lengths as one row of tokens, and the share of it that a context-parallel rank holds.

Context parallelism deals each context in 2·c equal chunks to c ranks: rank r holds the chunks r and 2c − 1 − r, so that
all ranks have equally much to do under the causal mask. This is Transformer Engine's order.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import lcm
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from aworld.training.micro_batch import MicroBatch
from aworld.trajectories.arrays import TrajectorySource

ROW_MULTIPLE = 8  # of a row's length, for aligned kernels


@dataclass(frozen=True)
class Split:
    """How the ranks of one replica share a row.

    Attributes:
        tensor: ranks of sequence parallelism; each holds T / tensor tokens outside of attention and MLP.
        context: ranks of context parallelism.
        rank: this rank among them.
        group: their process group; None: there is one.
    """

    tensor: int = 1
    context: int = 1
    rank: int = 0
    group: dist.ProcessGroup | None = None

    @classmethod
    def here(cls) -> "Split":
        """That of this rank, by Megatron's process groups."""
        context = parallel_state.get_context_parallel_world_size()
        return cls(
            parallel_state.get_tensor_model_parallel_world_size(),
            context,
            parallel_state.get_context_parallel_rank(),
            parallel_state.get_context_parallel_group() if context > 1 else None,
        )

    @property
    def context_multiple(self) -> int:
        """The length of a context in a row is padded to a multiple of this."""
        return 2 * self.context if self.context > 1 else 1

    @property
    def row_multiple(self) -> int:
        """The length of a row is padded to a multiple of this."""
        return lcm(ROW_MULTIPLE, self.context_multiple * self.tensor)


@dataclass(frozen=True)
class Inputs:
    """Where the inputs of each context lie among the tokens: without the last sampled one and what is behind it.

    Attributes:
        begins, ends: int64 [C]; ends[c] is the place of the last sampled token, begins[c] without one.
    """

    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, trajectories: TrajectorySource) -> "Inputs":
        """Those of a round."""
        begins, _, _ = trajectories.spans()
        return cls(begins, begins + trajectories.sequences["inputs"])

    @property
    def lengths(self) -> np.ndarray:
        """int64 [C]; 0 where the policy sampled nothing that has a predecessor."""
        return self.ends - self.begins


def pack(
    trajectories: TrajectorySource,
    inputs: Inputs,
    contexts: np.ndarray,
    advantages: np.ndarray,
    weights: np.ndarray,
    split: Split,
    device: torch.device,
    reference: np.ndarray | None = None,
) -> MicroBatch:
    """The micro-batch of some contexts, each without the tokens behind its last sampled one. Reads these contexts.

    Args:
        contexts: indices of contexts, each with a sampled token.
        advantages, weights: float64 [C], of all contexts.
        reference: float32 [N], the log-probabilities (nats) of all tokens under the reference policy.
    """
    begins, lengths = inputs.begins[contexts], inputs.lengths[contexts]
    starts = np.concatenate([[0], np.cumsum(_ceil(lengths, split.context_multiple))])
    starts[-1] = max(_ceil(starts[-1], split.row_multiple), split.row_multiple)  # behind the last context: padding
    if not len(contexts):
        starts = np.array([0, split.row_multiple])
    total = int(starts[-1])
    tokens, positions = np.zeros(total, np.int64), np.zeros(total, np.int64)
    found = {name: [np.zeros(0, kind)] for name, kind in _SAMPLED.items()}
    rows = trajectories.read(contexts)
    for i, (context, begin, length) in enumerate(zip(contexts, begins, lengths, strict=True)):
        start, (own, mask, logprobs) = starts[i], rows[i]
        tokens[start : start + length] = own[:length]
        positions[start : starts[i + 1]] = np.arange(starts[i + 1] - start)
        predicts = np.flatnonzero(mask[1:])
        sampled = 1 + predicts
        found["at"].append(start + predicts)
        found["targets"].append(own[sampled])
        found["logprobs"].append(logprobs[sampled])
        found["advantages"].append(np.full(len(sampled), advantages[context]))
        found["weights"].append(np.full(len(sampled), weights[context]))
        found["context"].append(np.full(len(sampled), i))
        found["places"].append(begin + sampled)
    flat = {name: np.concatenate(parts).astype(_SAMPLED[name]) for name, parts in found.items()}
    own = own_positions(tuple(starts.tolist()), split.context, split.rank)
    place = np.full(total, -1)
    place[own] = np.arange(len(own))
    flat["at"] = place[flat["at"]]
    here = flat["at"] >= 0
    if here.any():
        flat = {name: values[here] for name, values in flat.items()}
    else:
        flat = {name: np.zeros(1, values.dtype) for name, values in flat.items()}
        flat["context"][:] = len(starts) - 1
    if reference is not None:
        flat["reference"] = reference[flat["places"]]
    flat |= {"tokens": tokens[own], "positions": positions[own]}
    tensors: dict[str, Any] = {name: torch.from_numpy(values).to(device) for name, values in flat.items()}
    return MicroBatch(starts=tuple(starts.tolist()), group=split.group, **tensors)


_SAMPLED = {
    "at": np.int64,
    "targets": np.int64,
    "logprobs": np.float32,
    "advantages": np.float32,
    "weights": np.float32,
    "context": np.int64,
    "places": np.int64,
}


def own_positions(starts: tuple[int, ...], ranks: int, rank: int) -> np.ndarray:
    """The positions of a row that one context-parallel rank holds, in its order: int64 [T / ranks].

    Args:
        starts: where each context begins, and the row's length; all lengths are multiples of 2 · ranks.
    """
    if ranks == 1:
        return np.arange(starts[-1])
    parts = []
    for begin, end in pairwise(starts):
        chunk = (end - begin) // (2 * ranks)
        for number in (rank, 2 * ranks - 1 - rank):
            parts.append(np.arange(begin + number * chunk, begin + (number + 1) * chunk))
    return np.concatenate(parts)


def _ceil(values: np.ndarray, multiple: int) -> np.ndarray:
    return -(-values // multiple) * multiple
