"""REINFORCE++: advantages that are standardised over the whole round instead of each group (arXiv 2501.03262).

    B_i = R_i                             baseline: none, the paper's REINFORCE++
    B_i = R_i − mean R of the group       baseline: group, the paper's REINFORCE++ with baseline
    A_i = (B_i − mean B) / std B          over all sampled tokens of the round; std: the population's
    L = −1/Σ|o_i| Σ_i Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i),    r = min(π/μ, ratio_cap)

Mean and spread weigh an episode by its tokens, as the paper's advantages are those of tokens. So does the loss, as in
the authors' OpenRLHF. Where they are not set, ε are 0.2. The paper takes the divergence from the reference off the
rewards (none), or adds its k2 estimate to the loss (group). Here it is `reference_kl`, k3 in the loss.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.config.fields import choice, number
from aworld.training.algorithms import Group, centred, configured
from aworld.training.algorithms.grpo import GRPO


@dataclass(frozen=True)
class ReinforcePlusPlus(GRPO):
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "token"

    clip_high: float = number(0.2, at_least=0)
    baseline: str = choice("none", "none", "group")  # what is taken off each reward first; none: also groups of one

    @property
    def compares_attempts(self) -> bool:
        return self.baseline == "group"

    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        return centred(rewards) if self.compares_attempts else rewards.astype(np.float64)

    def advantages(self, groups: list[Group]) -> list[np.ndarray]:
        parts = super().advantages(groups)
        values = np.concatenate([np.zeros(0), *parts])
        if not values.size or not np.ptp(values):
            return [np.zeros(len(part)) for part in parts]
        tokens = np.concatenate([group.lengths for group in groups])
        mean = np.average(values, weights=tokens)
        spread = np.sqrt(np.average((values - mean) ** 2, weights=tokens))
        return [(part - mean) / spread for part in parts]


def make(training: Training) -> ReinforcePlusPlus:
    return configured(ReinforcePlusPlus, training)
