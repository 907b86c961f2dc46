"""The learning rate of every step of a run, beside the curve over all its steps."""

import numpy as np
import pytest

from aworld.config import ColdStart, Training
from aworld.errors import InputError
from aworld.training.schedule import check, cold_start_rate, learning_rate

pytestmark = pytest.mark.unit
ROUNDS, STEPS, LR = 12, 5, 3e-5


def ours(steps: int = STEPS, **changes: object) -> list[float]:
    """The learning rate of each step of a run with `steps` steps a round."""
    training = Training(lr=LR, **changes)
    return [
        learning_rate(training, round_, step, steps) for round_ in range(1, ROUNDS + 1) for step in range(1, steps + 1)
    ]


def falling(decay: str, steps: int) -> np.ndarray:
    """From LR at the first of so many steps to 0 behind the last: along a line, or half a wave of the cosine."""
    if decay == "linear":
        return np.linspace(LR, 0, steps, endpoint=False)
    return LR * np.cos(np.linspace(0, np.pi / 2, steps, endpoint=False)) ** 2


def test_without_settings_it_is_constant():
    assert ours() == [LR] * ROUNDS * STEPS


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_it_falls_over_all_steps_of_the_run(decay):
    assert ours(decay=decay, decay_rounds=ROUNDS) == pytest.approx(falling(decay, ROUNDS * STEPS), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_after_the_warm_up_it_falls_from_its_peak(decay):
    """Two rounds and three steps of warm-up."""
    found = ours(warmup_rounds=2.6, decay=decay, decay_rounds=ROUNDS)
    assert found[:13] == pytest.approx([LR * n / 13 for n in range(1, 14)])
    assert found[13:] == pytest.approx(falling(decay, ROUNDS * STEPS - 13), rel=1e-6, abs=1e-12)


def test_rounds_of_any_number_of_steps_have_the_same_course():
    few, many = (ours(steps, warmup_rounds=2, decay="cosine", decay_rounds=20) for steps in (1, 100))
    assert few[2:] == pytest.approx(many[200::100])


def test_the_cold_start_rises_and_stays():
    cold = ColdStart(lr=1e-3, warmup_steps=4)
    assert [cold_start_rate(cold, n) for n in range(1, 7)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])
    assert cold_start_rate(ColdStart(lr=1e-3), 1) == 1e-3


def test_a_rate_of_zero_within_the_run_is_refused():
    check(Training(decay="cosine", decay_rounds=30, warmup_rounds=2), 30)
    check(Training(warmup_rounds=50), 30)  # without a decay
    with pytest.raises(
        InputError, match=r"training\.decay_rounds=0: .*; set it to 30 or more, or training\.decay=none"
    ):
        check(Training(decay="linear"), 30)
    with pytest.raises(InputError, match=r"decay_rounds=9, but training\.decay=none; set it to linear or cosine"):
        check(Training(decay_rounds=9), 30)
    with pytest.raises(InputError, match=r"set it to 41 or more"):
        check(Training(decay="linear", decay_rounds=40, warmup_rounds=40), 30)
