"""DAPO: decoupled clip and dynamic sampling (arXiv 2503.14476, eqs. 8 to 12).

GRPO's advantage and clipped ratio with ε_low < ε_high, and

    L = −1/Σ|o_i| Σ_i Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i)

over groups that hold both right and wrong answers: groups of equal rewards are no part of a step. Where the paper
samples others in their place, a round here is as large as it is. Its soft penalty for overlong answers is not applied.
"""

from aworld.config import Training
from aworld.training.algorithms import clip
from aworld.training.algorithms.grpo import GRPO


def make(training: Training) -> GRPO:
    return GRPO(
        *clip(training, 0.2, 0.28),
        training.ratio_cap,
        normalisation="token",
        counts_zero_advantage=False,
    )
