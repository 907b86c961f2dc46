"""DAPO: decoupled clip and dynamic sampling (arXiv 2503.14476, eqs. 8 to 12).

GRPO's advantage and clipped ratio with ε_low < ε_high, and

    L = −1/Σ|o_i| Σ_i Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i)

over groups with right and wrong answers: groups of equal rewards are no part of a step. The paper's soft penalty for
overlong answers is `overlong_from` and `overlong_until`, 16,384 and 20,480 there. It does not make a group of equal
rewards a part of the step.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.training.algorithms import Group, configured
from aworld.training.algorithms.grpo import GRPO


@dataclass(frozen=True)
class DAPO(GRPO):
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "token"
    counts_zero_advantage: ClassVar[bool] = False

    def shaped(self, group: Group) -> np.ndarray:
        return super().shaped(group) if np.ptp(group.rewards) else group.rewards


def make(training: Training) -> DAPO:
    return configured(DAPO, training)
