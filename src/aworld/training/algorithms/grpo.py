"""GRPO: group relative policy optimisation (DeepSeekMath, arXiv 2402.03300, eq. 3), without a KL term.

    A_i = (R_i − mean R) / std R          std: the population's, of the group
    L = −1/n Σ_i 1/|o_i| Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i),    r = min(π/μ, ratio_cap)

The ratio is to the policy that sampled, by the log-probabilities of the inference engine, so that it also corrects for
the mismatch of the two engines. The cap bounds the loss where the advantage is negative and the clip does not: dual
clip (Ye et al., arXiv 1912.09729, eq. 5). Where they are not set, ε are 0.2 and 0.28. A group of equal rewards has zero
advantage.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from aworld.config import Training
from aworld.training.algorithms import MicroBatch, centred, clip, ratio


@dataclass(frozen=True)
class GRPO:
    clip_low: float
    clip_high: float
    ratio_cap: float
    normalisation: Literal["token", "sequence", "constant"] = "sequence"
    counts_zero_advantage: bool = True

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        deviation = centred(rewards)
        spread = deviation.std()
        return deviation / spread if spread else deviation

    def loss(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        r = ratio(logprobs, batch).clamp(max=self.ratio_cap)
        free = r * batch.advantages
        clipped = r.clamp(1 - self.clip_low, 1 + self.clip_high) * batch.advantages
        return -torch.min(free, clipped), {"ratio": r, "clip_fraction": (clipped < free).float()}


def make(training: Training) -> GRPO:
    return GRPO(*clip(training, 0.2, 0.28), training.ratio_cap)
