"""The numbers in a round's `metrics.json`."""

from typing import Any

import numpy as np

from aworld.config import Site

# Taken from a round's first step: there only the two engines differ.
BEFORE_UPDATES = ("kl", "mismatch_mean", "mismatch_max")
MEANS = ("loss", "entropy", "grad_norm", "ratio", "clip_fraction", "reference_kl", "masked_fraction")
Metrics = list[dict[str, float]]


def summary(steps: Metrics, rewards: np.ndarray) -> dict[str, Any]:
    """The summary of a round: means over its steps, weighted by their tokens, and the mean of its rewards [E].

    `reward` is missing in a round without episodes, the metrics of steps in one without steps.
    """
    tokens = sum(step["tokens"] for step in steps)
    found: dict[str, Any] = {"steps": len(steps), "tokens_trained": tokens}
    if len(rewards):
        found["reward"] = float(rewards.mean())
    if steps:
        first = steps[0]
        found |= {name: first[name] for name in BEFORE_UPDATES if name in first}
        found |= {name: sum(step[name] * step["tokens"] for step in steps) / tokens for name in MEANS if name in first}
    return found


def too_long(seconds: float, site: Site) -> str:
    """A warning for the user if Slurm's notice is too short for a checkpoint that takes so long to write; else ""."""
    if site.executor != "slurm" or seconds < site.signal_seconds:
        return ""
    return (
        f"a checkpoint took {seconds:.0f} s to write, and Slurm says {site.signal_seconds} s before the time limit "
        "that it comes (site.signal_seconds): the steps since the last checkpoint would be lost; make it longer than a "
        "checkpoint takes"
    )
