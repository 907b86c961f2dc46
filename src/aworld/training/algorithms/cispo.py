"""CISPO: clipped importance sampling weights (MiniMax-M1, arXiv 2506.13585, eqs. 4 and 5).

    L = −1/Σ|o_i| Σ_i Σ_t sg[clip(π/μ, 1 − ε_low, 1 + ε_high)] A_i log π_t

with GRPO's advantage: a clipped token keeps its gradient. ε_low = 1 sets no lower bound, as the paper does.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from aworld.config import Training
from aworld.training.algorithms import MicroBatch, ratio
from aworld.training.algorithms.grpo import GRPO


@dataclass(frozen=True)
class CISPO(GRPO):
    normalisation: Literal["token", "sequence", "constant"] = "token"

    def loss(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        r = ratio(logprobs.detach(), batch)
        weight = r.clamp(1 - self.clip_low, min(1 + self.clip_high, self.ratio_cap))
        return -weight * batch.advantages * logprobs, {"ratio": weight, "clip_fraction": (weight != r).float()}


def make(training: Training) -> CISPO:
    return CISPO(training.clip_low, training.clip_high, training.ratio_cap)
