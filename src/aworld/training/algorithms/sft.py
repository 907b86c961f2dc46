"""Supervised fine-tuning on the episodes that were solved: the mean negative log-likelihood of their sampled tokens.

L = −1/Σ|o_i| Σ_{i: R_i = 1} Σ_t log π_t

The metric `repeats` is the probability exp(Σ_t log π_t) that the policy samples the whole context, word for word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from aworld.config import Training
from aworld.training.algorithms import Group, configured

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class SFT:
    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "token"
    counts_zero_advantage: ClassVar[bool] = False
    compares_attempts: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    entropy_has_gradient: ClassVar[bool] = False

    def advantages(self, groups: list[Group]) -> list[np.ndarray]:
        return [(group.rewards == 1.0).astype(np.float64) for group in groups]

    def loss(
        self, logprobs: torch.Tensor, entropy: torch.Tensor, batch: MicroBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        repeats = batch.sums(logprobs.detach()).exp()[batch.context]
        return -batch.advantages * logprobs, {"repeats": repeats}


def make(training: Training) -> SFT:
    return configured(SFT, training)
