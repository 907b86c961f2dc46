"""The learning rate of each optimizer step: a function of the step's place in the run, so that a resume is exact.

Time is counted in rounds: a step is a fraction of its round. The steps of earlier rounds need not be known.
"""

import math

from aworld.config import ColdStart, Training
from aworld.errors import InputError


def check(training: Training, rounds: int) -> None:
    """Check that every round of a run has a learning rate.

    Args:
        rounds: of the run.

    Raises:
        InputError: the learning rate is 0 before the last round, or before the warm-up is over; or it never falls.
    """
    if training.decay == "none":
        if training.decay_rounds:
            raise InputError(
                f"training.decay_rounds={training.decay_rounds}, but training.decay=none; set it to linear or cosine"
            )
        return
    least = max(rounds, math.floor(training.warmup_rounds) + 1)
    if training.decay_rounds < least:
        raise InputError(
            f"training.decay_rounds={training.decay_rounds}: the learning rate falls to 0 there, before the end of the "
            f"run's {rounds} rounds or of its warm-up; set it to {least} or more, or training.decay=none"
        )


def learning_rate(training: Training, round_: int, step: int, steps: int) -> float:
    """The learning rate of a step: `training.lr`, less during the warm-up and the decay.

    With t rounds before the step and t' at its end, W rounds of warm-up, D = decay_rounds:

        lr · min(1, t' / W) · d((t − W) / (D − W))        d(x) = 1 − x (linear) or (1 + cos πx) / 2 (cosine)

    Args:
        round_: the round, from 1.
        step: the step in its round, from 1.
        steps: the steps of the round.
    """
    before, after = round_ - 1 + (step - 1) / steps, round_ - 1 + step / steps
    warmup = training.warmup_rounds
    risen = min(1.0, after / warmup) if warmup else 1.0
    if training.decay == "none":
        return training.lr * risen
    share = min(max((before - warmup) / (training.decay_rounds - warmup), 0.0), 1.0)
    left = 1 - share if training.decay == "linear" else (1 + math.cos(math.pi * share)) / 2
    return training.lr * risen * left


def cold_start_rate(cold: ColdStart, step: int) -> float:
    """The learning rate of a step of the cold start, counted from 1: it rises to `lr` over the warm-up, and stays."""
    return cold.lr * min(1.0, step / max(cold.warmup_steps, 1))
