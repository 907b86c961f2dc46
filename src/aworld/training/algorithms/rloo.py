"""RLOO: REINFORCE with the mean of the other attempts as baseline (arXiv 2402.14740, eq. 8).

    A_i = R_i − 1/(G − 1) Σ_{j≠i} R_j          0 in a group of one
    L = −1/n Σ_i Σ_t sg[min(π/μ, ratio_cap)] A_i log π_t

up to the constant factor 1/max_tokens. On the data of its own policy the weight sg[…] is 1, as in the paper; it
corrects, truncated, for data that is older, and for the mismatch of the two engines (Yao et al., "Your efficient RL
framework secretly brings you off-policy RL training", 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.config.fields import number
from aworld.training.algorithms import centred, configured, ratio
from aworld.training.policy_gradient import PolicyGradient

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class RLOO(PolicyGradient):
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "constant"

    ratio_cap: float = number(2.0, above=0)

    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        # R_i − mean of the others = (R_i − mean of all) · G / (G − 1)
        return centred(rewards) * len(rewards) / max(len(rewards) - 1, 1)

    def surrogate(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        r = ratio(logprobs.detach(), batch)
        truncated = r.clamp(max=self.ratio_cap)
        metrics = {"ratio": truncated, "clip_fraction": (r > self.ratio_cap).float()}
        return -truncated * batch.advantages * logprobs, metrics


def make(training: Training) -> RLOO:
    return configured(RLOO, training)
