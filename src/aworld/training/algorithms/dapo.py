"""DAPO: decoupled clip and dynamic sampling (arXiv 2503.14476, eqs. 8 to 12).

GRPO's advantage and clipped ratio with ε_low < ε_high, and

    L = −1/Σ|o_i| Σ_i Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i)

over groups with right and wrong answers: groups of equal rewards are no part of a step. The paper samples others in
their place; here a round has fewer episodes then. The paper's soft penalty for overlong answers is not applied.
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
