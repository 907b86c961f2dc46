"""What is written about a round."""

import json

import numpy as np
import pytest

from aworld.config import Site
from aworld.training.metrics import summary, too_long

pytestmark = pytest.mark.unit


def test_steps_count_by_their_tokens_and_the_mismatch_is_that_of_the_first() -> None:
    steps = [{"loss": 1.0, "tokens": 10.0, "kl": 0.1}, {"loss": 4.0, "tokens": 20.0, "kl": 0.7}]
    found = summary(steps, np.array([0.0, 1.0, 1.0, 1.0]))
    assert found == {"steps": 2, "tokens_trained": 30.0, "reward": 0.75, "loss": 3.0, "kl": 0.1}


def test_a_round_without_episodes_or_steps_has_no_means() -> None:
    assert json.loads(json.dumps(summary([], np.zeros(0)), allow_nan=False)) == {"steps": 0, "tokens_trained": 0}


def test_a_checkpoint_that_takes_longer_than_the_notice_is_said() -> None:
    slurm = Site(name="mine", executor="slurm", signal_seconds=120)
    assert "a checkpoint took 150 s to write, and Slurm says 120 s before" in too_long(150.0, slurm)
    assert too_long(100.0, slurm) == too_long(150.0, Site(name="mine", executor="local", signal_seconds=120)) == ""
