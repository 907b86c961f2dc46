"""Supervised fine-tuning on the episodes that were solved: the mean negative log-likelihood of their sampled tokens.

L = −1/Σ|o_i| Σ_{i: R_i = 1} Σ_t log π_t

The metric `repeats` is the probability exp(Σ_t log π_t) that the policy samples the whole episode, word for word.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from aworld.config import Training
from aworld.training.algorithms import MicroBatch


@dataclass(frozen=True)
class SFT:
    normalisation: Literal["token", "sequence", "constant"] = "token"
    counts_zero_advantage: bool = False

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        return (rewards == 1.0).astype(np.float64)

    def loss(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        repeats = batch.sums(logprobs.detach()).exp()[batch.context]
        return -batch.advantages * logprobs, {"repeats": repeats}


def make(training: Training) -> SFT:
    return SFT()
