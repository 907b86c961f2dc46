"""What the policy-gradient algorithms have in common: shaped rewards, and terms beside their own surrogate loss.

    R'_i = R_i + penalty of its length                       overlong_from, overlong_until
    L_t  = m · (surrogate_t + β KL_t − c H_t)                 reference_kl: β, entropy_bonus: c, mask_*: m

An algorithm says how advantages follow from R', and which surrogate it has. A term is left out until its option is set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from aworld.config.fields import choice, number
from aworld.errors import InputError
from aworld.training.algorithms import Group
from aworld.training.terms import inside, overlong_penalty, reference_kl

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch


@dataclass(frozen=True)
class PolicyGradient(ABC):
    """A policy-gradient algorithm. Its fields are the options that all of them have."""

    normalisation: ClassVar[Literal["token", "sequence", "constant"]] = "sequence"
    counts_zero_advantage: ClassVar[bool] = True

    reference_kl: float = number(0.0, at_least=0)  # weight of the divergence from the reference policy
    entropy_bonus: float = number(0.0, at_least=0)  # weight of the entropy
    # a context carries no loss where its ratio to the sampling policy, the product over its tokens or their geometric
    # mean, is outside; its tokens still count in the normalisation
    mask_ratio: str = choice("product", "product", "mean")
    mask_below: float | None = number(None, above=0, at_most=1)
    mask_above: float | None = number(None, at_least=1)
    # the reward of an episode falls by up to 1 between these numbers of sampled tokens
    overlong_from: int | None = number(None, at_least=0)
    overlong_until: int | None = number(None, at_least=1)

    def __post_init__(self) -> None:
        start, end = self.overlong_from, self.overlong_until
        if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
            raise InputError(
                f"training.options.overlong_from={start}, overlong_until={end}: the penalty grows from the one to the "
                "other, so give both, the second larger"
            )
        low, high = self.mask_below, self.mask_above
        if low is not None and high is not None and low >= high:
            raise InputError(f"training.options.mask_below={low:g} leaves nothing below mask_above={high:g}; lower it")

    @property
    def compares_attempts(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return self.reference_kl > 0

    @property
    def entropy_has_gradient(self) -> bool:
        return self.entropy_bonus > 0

    def advantages(self, groups: list[Group]) -> list[np.ndarray]:
        return [self.advantage(self.shaped(group)) for group in groups]

    def shaped(self, group: Group) -> np.ndarray:
        """The rewards of a group with the penalty of their lengths, float [group]."""
        if self.overlong_from is None or self.overlong_until is None:
            return group.rewards
        return group.rewards + overlong_penalty(group.lengths, self.overlong_from, self.overlong_until)

    def loss(
        self, logprobs: torch.Tensor, entropy: torch.Tensor, batch: MicroBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        total, metrics = self.surrogate(logprobs, batch)
        if self.reference_kl:
            kl = reference_kl(logprobs, batch)
            total, metrics["reference_kl"] = total + self.reference_kl * kl, kl
        if self.entropy_bonus:
            total = total - self.entropy_bonus * entropy
        if self.mask_below is not None or self.mask_above is not None:
            mask = inside(logprobs, batch, self.mask_ratio, self.mask_below, self.mask_above)
            total, metrics["masked_fraction"] = total * mask, 1 - mask
        return total, metrics

    @abstractmethod
    def advantage(self, rewards: np.ndarray) -> np.ndarray:
        """The advantages of one group, float64 [group], from its rewards [group]."""

    @abstractmethod
    def surrogate(self, logprobs: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The algorithm's own loss of each token, float32 [n], and metrics, among them `ratio` and `clip_fraction`."""
