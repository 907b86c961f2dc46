"""The seam of learning: one file per algorithm, found by its name.

A file `NAME.py` in this folder makes `training.algorithm=NAME` valid. It holds `make(training) -> Algorithm`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from aworld.config import Training
from aworld.errors import InputError

from aworld.training.micro_batch import MicroBatch
if TYPE_CHECKING:  # a launcher checks the name, and importing torch takes seconds
    import torch


LARGEST_LOG_RATIO = 20.0  # nats: a ratio of 5e8, far beyond any cap


class Algorithm(Protocol):
    """How advantages follow from rewards, and a loss from advantages. The loss of an optimizer step is Σ weight · loss.

    Attributes:
        normalisation: the weight of token t of episode i, with n episodes in the step and |o_i| sampled tokens:
            `token` 1 / Σ|o_i|; `sequence` 1 / (n · |o_i|); `constant` 1 / (n · max_tokens), max_tokens the limit of an
            episode.
        counts_zero_advantage: whether episodes of zero advantage are members of the step, counted in n and Σ|o_i|.
    """

    normalisation: Literal["token", "sequence", "constant"]
    counts_zero_advantage: bool

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        """The advantage of each episode of a group, float64 [group].

        Args:
            rewards: float [group]. Attempts that were lost to the machine are in no group.
        """
        ...

    def loss(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each token, float32 [b, s], and named metrics of each token, [b, s], averaged over sampled ones.

        Args:
            logprobs: float32 [b, s], nats, of tokens[:, 1:] under the policy in training; 0 where not sampled.
        """
        ...


def names() -> list[str]:
    """The names of all algorithms."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def check(training: Training) -> None:
    """Check the name of the algorithm.

    Raises:
        InputError: there is no algorithm of the name `training.algorithm`.
    """
    if training.algorithm not in names():
        raise InputError(f"training.algorithm={training.algorithm} is not there; valid: {', '.join(names())}")


def make(training: Training) -> Algorithm:
    """The algorithm of the name `training.algorithm`.

    Raises:
        InputError: there is none of that name.
    """
    check(training)
    return importlib.import_module(f"{__name__}.{training.algorithm}").make(training)


def clip(training: Training, low: float, high: float) -> tuple[float, float]:
    """`training.clip_low` and `clip_high`; `low` and `high`, the algorithm's own, where they are not set."""
    return (
        low if training.clip_low is None else training.clip_low,
        high if training.clip_high is None else training.clip_high,
    )


def bounded_exp(log_ratio: torch.Tensor) -> torch.Tensor:
    """exp(min(log_ratio, LARGEST_LOG_RATIO)), of the same shape; log_ratio in nats.

    A ratio that is clipped only after it has overflowed has the gradient 0 · inf, which is NaN.
    """
    return log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()


def ratio(logprobs: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """π(token) / μ(token), [b, s]. μ is the policy that sampled the token, as the inference engine computed it."""
    return bounded_exp(logprobs - batch.logprobs)


def divergence(logprobs: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Schulman's k3 estimate of KL(μ‖π) at each token (nats), [b, s]: http://joschu.net/blog/kl-approx.html."""
    difference = logprobs - batch.logprobs
    return bounded_exp(difference) - 1 - difference


def centred(rewards: np.ndarray) -> np.ndarray:
    """rewards − mean, float64 [group]; exactly zero where all rewards are equal."""
    values = rewards.astype(np.float64)
    return values - values.mean() if np.ptp(values) else np.zeros(len(values))
