"""GSPO: group sequence policy optimisation (arXiv 2507.18071, eqs. 5 and 7).

    s_i = (π(o_i) / μ(o_i))^(1/|o_i|) = exp(1/|o_i| Σ_t (log π_t − log μ_t))
    L = −1/n Σ_i min(s_i A_i, clip(s_i, 1 − ε_low, 1 + ε_high) A_i)

with GRPO's advantage. The mean over a sequence of many tokens hardly leaves 1: ε are 3e-4 and 4e-4, the paper's, where
they are not set. The sequence o_i is one context: an episode with several has a ratio for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aworld.config import Training
from aworld.config.fields import number
from aworld.training.algorithms import bounded_exp, configured
from aworld.training.algorithms.grpo import GRPO

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class GSPO(GRPO):
    clip_low: float = number(3e-4, at_least=0)
    clip_high: float = number(4e-4, at_least=0)

    def surrogate(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        difference = logprobs - batch.logprobs
        lengths = batch.sums(difference.new_ones(len(difference))).clamp(min=1)
        s = bounded_exp(batch.sums(difference) / lengths)
        return self.clipped(s[batch.context], batch)  # the same value at each of |o_i| tokens of weight 1 / (n |o_i|)


def make(training: Training) -> GSPO:
    return configured(GSPO, training)
