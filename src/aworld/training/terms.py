"""Terms that any policy-gradient algorithm may add: to its rewards, to its loss, and a mask over its contexts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from aworld.training.algorithms import LARGEST_LOG_RATIO

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


def overlong_penalty(lengths: np.ndarray, start: int, end: int) -> np.ndarray:
    """DAPO's soft punishment of overlong answers, float64 [group]: 0 up to `start` tokens, falling to −1 at `end`.

    arXiv 2503.14476, eq. 13, with start = L_max − L_cache and end = L_max.

    Args:
        lengths: int [group], sampled tokens.
    """
    return -np.clip((lengths - start) / (end - start), 0.0, 1.0)


def reference_kl(logprobs: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """GRPO's estimate of KL(π‖π_ref) at each token (nats), [n]: π_ref/π − log(π_ref/π) − 1, Schulman's k3.

    DeepSeekMath, arXiv 2402.03300, eq. 4. It has no gradient where π_ref/π is beyond any reason.

    Args:
        batch: with `reference`.
    """
    assert batch.reference is not None
    log_ratio = (batch.reference - logprobs).clamp(max=LARGEST_LOG_RATIO)
    return log_ratio.exp() - log_ratio - 1


def inside(
    logprobs: torch.Tensor, batch: MicroBatch, ratio: str, low: float | None, high: float | None
) -> torch.Tensor:
    """1 at each token of a context whose ratio π(o)/μ(o) is within the limits, 0 at all others: float32 [n].

    Masked importance sampling over sequences: 1{ρ(o) ≤ C} of Liu, Li et al., "When speed kills stability: demystifying
    RL collapse from the training-inference mismatch" (2025). The geometric mean does not depend on the length.

    Args:
        ratio: of a context: the `product` of its tokens' ratios, or their geometric `mean`.
        low, high: None: no limit.
    """
    log_ratio = batch.sums(logprobs.detach() - batch.logprobs)
    if ratio == "mean":
        log_ratio = log_ratio / batch.sums(batch.logprobs.new_ones(len(batch.logprobs))).clamp(min=1)
    within = log_ratio <= (math.inf if high is None else math.log(high))
    within &= log_ratio >= (-math.inf if low is None else math.log(low))
    return within[batch.context].float()
