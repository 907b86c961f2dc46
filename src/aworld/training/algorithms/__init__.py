"""The seam of learning: one file per algorithm, found by its name.

A file `NAME.py` in this folder makes `training.algorithm=NAME` valid. It holds `make(training) -> Algorithm`. A
launcher calls `make` to check the options. So the file imports torch, which takes seconds, for its annotations alone.
Such a file may lie anywhere: `training.algorithm=/path/mine.py`. A package may bring its `make` as an entry point of
the group `aworld.algorithms`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from aworld import plugins
from aworld.config import Training, fill
from aworld.errors import AWorldError, InputError

if TYPE_CHECKING:
    import torch

    from aworld.training.micro_batch import MicroBatch

GROUP = "aworld.algorithms"  # of entry points
SETTINGS = ("clip_low", "clip_high", "ratio_cap")  # of `training` itself: fields of an algorithm, but no options
LARGEST_LOG_RATIO = 20.0  # nats: a ratio of 5e8, far beyond any cap


@dataclass(frozen=True)
class Group:
    """The attempts at one task, without those that were lost to the machine.

    Attributes:
        rewards: float [group].
        lengths: int64 [group], sampled tokens.
        statuses: str [group], such as `answered` and `max_tokens`.
    """

    rewards: np.ndarray
    lengths: np.ndarray
    statuses: np.ndarray


class Algorithm(Protocol):
    """How advantages follow from rewards, and a loss from advantages. The loss of a step is Σ weight · loss."""

    @property
    def normalisation(self) -> Literal["token", "sequence", "constant"]:
        """The weight of token t of episode i, with n episodes in the step and |o_i| sampled tokens.

        `token` 1 / Σ|o_i|; `sequence` 1 / (n · |o_i|); `constant` 1 / (n · max_tokens), with the limit of an episode.
        """

    @property
    def counts_zero_advantage(self) -> bool:
        """Whether episodes of zero advantage are members of the step, counted in n and Σ|o_i|."""

    @property
    def compares_attempts(self) -> bool:
        """Whether an advantage is relative to the other attempts, so that nothing is learned from a group of one."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss uses `batch.reference`. Then a member of zero advantage has a loss, too."""

    @property
    def entropy_has_gradient(self) -> bool:
        """Whether the loss depends on the entropies. Then a member of zero advantage has a loss, too."""

    def advantages(self, groups: list[Group]) -> list[np.ndarray]:
        """The advantage of each episode, float64 [group] for each of the round's groups."""

    def loss(
        self, logprobs: torch.Tensor, entropy: torch.Tensor, batch: MicroBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each sampled token, float32 [n], and named metrics of each, [n], averaged over trained tokens.

        Args:
            logprobs: float32 [n], nats, of the sampled tokens under the policy in training.
            entropy: float32 [n], nats, of the distributions that the tokens were sampled from; with a gradient where
                `entropy_has_gradient`.
        """


A = TypeVar("A", bound=Algorithm)


def names() -> list[str]:
    """The names of all algorithms that aworld brings."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def make(training: Training, copies: Path | None = None) -> Algorithm:
    """The algorithm of the name `training.algorithm`, with its options.

    Args:
        copies: the folder of a run where the user's files are kept, `plugins.FOLDER`.

    Raises:
        InputError: there is none of that name; or it has no such option, or not with such a value.
    """
    name = training.algorithm
    if name in names():
        return importlib.import_module(f"{__name__}.{name}").make(training)
    others = plugins.entry_points(GROUP)
    if not plugins.is_file(name) and name not in others:
        valid = ", ".join([*names(), *others])
        raise InputError(f"training.algorithm={name} is not there; valid: {valid}, or a file: /path/mine.py")
    found = plugins.load(name, setting="training.algorithm", group=GROUP, copies=copies, default="make")
    try:
        algorithm: Algorithm = found(training)
    except AWorldError:
        raise
    except Exception as error:
        raise InputError(f"training.algorithm={name}: its make(training) failed: {error!r}; mend the file") from error
    wanted = [member for member in vars(Algorithm) if not member.startswith("_")]
    if missing := [member for member in wanted if not hasattr(algorithm, member)]:
        raise InputError(f"training.algorithm={name}: {type(algorithm).__name__} has no {missing[0]}; add it")
    return algorithm


def configured(algorithm: type[A], training: Training) -> A:
    """An algorithm whose fields come from `training.options`, and from `training` itself for those in SETTINGS.

    A field keeps its default, the algorithm's own, where the value is null.

    Args:
        algorithm: a dataclass; `aworld.config.fields` declares the limits of its fields.

    Raises:
        InputError: an option is not a field of it, has the wrong type, or is outside its limits.
    """
    known = {field.name for field in fields(algorithm)}  # type: ignore[arg-type]
    options = {name: value for name, value in training.options.items() if value is not None}
    if unknown := sorted(options.keys() - (known - {*SETTINGS})):
        valid = ", ".join(sorted(known - {*SETTINGS})) or "none"
        raise InputError(f"training.options.{unknown[0]}: {training.algorithm} has no such option; valid: {valid}")
    settings: dict[str, Any] = {name: getattr(training, name) for name in SETTINGS if name in known}
    return fill(algorithm, options | {k: v for k, v in settings.items() if v is not None}, "training.options")


def bounded_exp(log_ratio: torch.Tensor) -> torch.Tensor:
    """exp(min(log_ratio, LARGEST_LOG_RATIO)), of the same shape; log_ratio in nats.

    A ratio that is clipped only after it has overflowed has the gradient 0 · inf, which is NaN.
    """
    return log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()


def ratio(logprobs: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """π(token) / μ(token), [n]. μ is the policy that sampled the token, as the inference engine computed it."""
    return bounded_exp(logprobs - batch.logprobs)


def divergence(logprobs: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Schulman's k3 estimate of KL(μ‖π) at each token (nats), [n]: http://joschu.net/blog/kl-approx.html."""
    difference = logprobs - batch.logprobs
    return bounded_exp(difference) - 1 - difference


def centred(rewards: np.ndarray) -> np.ndarray:
    """rewards − mean, float64 [group]; exactly zero where all rewards are equal."""
    values = rewards.astype(np.float64)
    return values - values.mean() if np.ptp(values) else np.zeros(len(values))


def standardised(rewards: np.ndarray) -> np.ndarray:
    """(rewards − mean) / std, float64 [group], std the population's; exactly zero where all rewards are equal."""
    deviation = centred(rewards)
    spread = deviation.std()
    return deviation / spread if spread else deviation
