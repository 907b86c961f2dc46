"""GRPO: group relative policy optimisation (DeepSeekMath, arXiv 2402.03300, eq. 3).

    A_i = (R_i − mean R) / std R          std: the population's, of the group
    L = −1/n Σ_i 1/|o_i| Σ_t min(r A_i, clip(r, 1 − ε_low, 1 + ε_high) A_i),    r = min(π/μ, ratio_cap)

The ratio is to the policy that sampled, by the log-probabilities of the inference engine, so that it also corrects for
the mismatch of the two engines. The cap is dual clip (Ye et al., arXiv 1912.09729, eq. 5): it bounds the loss where the
advantage is negative and the clip does not, max(min(r A, clip(r) A), c A) with c = ratio_cap. Where they are not set, ε
are 0.2 and 0.28. A group of equal rewards has zero advantage. The paper's KL term is `reference_kl`, and 0.04 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aworld.config import Training
from aworld.config.fields import number
from aworld.errors import InputError
from aworld.training.algorithms import configured, ratio, standardised
from aworld.training.policy_gradient import PolicyGradient

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class GRPO(PolicyGradient):
    clip_low: float = number(0.2, at_least=0)
    clip_high: float = number(0.28, at_least=0)
    ratio_cap: float = number(2.0, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio_cap < 1 + self.clip_high:
            raise InputError(
                f"training.ratio_cap={self.ratio_cap:g} cuts ratios that the clip allows, up to 1 + training.clip_high "
                f"= {1 + self.clip_high:g}; raise it, or lower training.clip_high"
            )

    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        return standardised(rewards)

    def surrogate(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.clipped(ratio(logprobs, batch), batch)

    def clipped(self, r: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The clipped loss of each token, and its metrics, from the ratios r, [n]."""
        r = r.clamp(max=self.ratio_cap)
        free = r * batch.advantages
        clipped = r.clamp(1 - self.clip_low, 1 + self.clip_high) * batch.advantages
        return -free.minimum(clipped), {"ratio": r, "clip_fraction": (clipped < free).float()}


def make(training: Training) -> GRPO:
    return configured(GRPO, training)
