"""GSPO: group sequence policy optimisation (arXiv 2507.18071, eqs. 5 and 7).

    s_i = (π(o_i) / μ(o_i))^(1/|o_i|) = exp(1/|o_i| Σ_t (log π_t − log μ_t))
    L = −1/n Σ_i min(s_i A_i, clip(s_i, 1 − ε_low, 1 + ε_high) A_i)

with GRPO's advantage. The mean over a sequence of many tokens hardly leaves 1: ε are 3e-4 and 4e-4, the paper's, where
they are not set. The sequence o_i is one context: an episode with several has a ratio for each.
"""

from dataclasses import dataclass

import torch

from aworld.config import Training
from aworld.training.algorithms import MicroBatch, bounded_exp, clip
from aworld.training.algorithms.grpo import GRPO


@dataclass(frozen=True)
class GSPO(GRPO):
    def loss(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        difference = batch.sums(logprobs - batch.logprobs)
        length = batch.sums(torch.ones_like(logprobs)).clamp(min=1)
        s = bounded_exp(difference / length)[batch.context].clamp(max=self.ratio_cap)
        free = s * batch.advantages
        clipped = s.clamp(1 - self.clip_low, 1 + self.clip_high) * batch.advantages
        # The same value at each of |o_i| tokens of weight 1 / (n |o_i|).
        return -torch.min(free, clipped), {"ratio": s, "clip_fraction": (clipped < free).float()}


def make(training: Training) -> GSPO:
    return GSPO(*clip(training, 3e-4, 4e-4), training.ratio_cap)
