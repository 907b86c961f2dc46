"""Dr. GRPO: GRPO done right (arXiv 2503.20783, section 3.2): neither the length nor the spread of rewards biases it.

A_i = R_i − mean R
L = −1/(n · max_tokens) Σ_i Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i),    r = min(π/μ, ratio_cap)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.training.algorithms import centred, configured
from aworld.training.algorithms.grpo import GRPO


@dataclass(frozen=True)
class DrGRPO(GRPO):
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "constant"

    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        return centred(rewards)


def make(training: Training) -> DrGRPO:
    return configured(DrGRPO, training)
