"""What a round's `metrics.json` holds."""

from typing import Any

import numpy as np

from aworld.config import Site

BEFORE_UPDATES = (
    "kl",
    "mismatch_mean",
    "mismatch_max",
)  # of a round's first step: the two engines differ, nothing else
MEANS = ("loss", "entropy", "grad_norm", "ratio", "clip_fraction")
Metrics = list[dict[str, float]]


def summary(steps: Metrics, rewards: np.ndarray) -> dict[str, Any]:
    """Means over the round's steps, each step's weighted by its tokens; the mean reward, where there is an episode."""
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
    """What to say of a step that took so long, where Slurm would kill the job before the next one ends; else empty."""
    if site.executor != "slurm" or seconds < site.signal_seconds:
        return ""
    return (
        f"a step took {seconds:.0f} s, and Slurm says {site.signal_seconds} s before the time limit that it comes "
        "(site.signal_seconds): the step in hand would be lost; make it longer than a step and a checkpoint take"
    )
