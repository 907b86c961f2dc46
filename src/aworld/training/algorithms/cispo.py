"""CISPO: clipped importance sampling weights (MiniMax-M1, arXiv 2506.13585, eqs. 4 and 5).

    L = −1/Σ|o_i| Σ_i Σ_t sg[clip(π/μ, 1 − ε_low, 1 + ε_high)] A_i log π_t

with GRPO's advantage: a clipped token keeps its gradient. Where ε_low is not set it is 1, which sets no lower bound, as
in the paper; ε_high, for which the paper gives no number, is 0.28. The cap is 1 + ε_high, not `ratio_cap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.config.fields import number
from aworld.training.algorithms import configured, ratio, standardised
from aworld.training.policy_gradient import PolicyGradient

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class CISPO(PolicyGradient):
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "token"

    clip_low: float = number(1.0, at_least=0)
    clip_high: float = number(0.28, at_least=0)

    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        return standardised(rewards)

    def surrogate(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        r = ratio(logprobs.detach(), batch)
        weight = r.clamp(1 - self.clip_low, 1 + self.clip_high)
        return -weight * batch.advantages * logprobs, {"ratio": weight, "clip_fraction": (weight != r).float()}


def make(training: Training) -> CISPO:
    return configured(CISPO, training)
