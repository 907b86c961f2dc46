import itertools
import math
import statistics as reference
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.errors import InputError
from aworld.evaluation import statistics
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit


def episode(task: str, attempt: int, reward: float, status: str = "answered") -> Episode:
    return Episode(0, task, attempt, 1, "?", [], [], [], [], None, reward, status, {}, 4, 0)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_interval_is_the_normal_one_of_the_task_means(values):
    mean, (low, high) = statistics.mean_ci95(np.array(values))
    error = reference.NormalDist().inv_cdf(0.975) * reference.stdev(values) / math.sqrt(len(values))
    assert mean == pytest.approx(reference.mean(values), abs=1e-9)
    assert (low, high) == (pytest.approx(mean - error, abs=1e-6), pytest.approx(mean + error, abs=1e-6))


def test_interval_holds_the_truth_19_times_of_20_when_attempts_at_a_task_agree():
    """Attempts at one task are nearly alike here; an interval over attempts would be far too narrow."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        chance = rng.beta(0.3, 0.7, 120)
        means = rng.binomial(4, chance) / 4
        _, (low, high) = statistics.mean_ci95(means)
        held += low <= 0.3 <= high
    assert 0.92 < held / 400 < 0.98


def test_what_failed_or_is_missing_counts_as_wrong():
    levels = {"a": 1, "b": 1, "c": 2, "never played": 3}
    played = [
        episode("a", 0, 1.0),
        episode("a", 1, 0.0),
        episode("b", 0, 0.0, "infra_error"),
        episode("b", 1, 1.0),
        episode("c", 0, 1.0),
    ]
    found = statistics.evaluation(played, levels, attempts=2)
    assert found["pass_at_1"] == pytest.approx((0.5 + 0.5 + 0.5 + 0.0) / 4)
    assert (found["n_tasks"], found["attempts"], found["policy_version"]) == (4, 2, 4)
    assert {level: row["pass_at_1"] for level, row in found["by_level"].items()} == {"1": 0.5, "2": 0.5, "3": 0.0}
    assert found["failures"] == {"infra_error": 1, "missing": 3, "wrong_answer": 1}


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_an_interval_is_never_empty(reward):
    levels = dict.fromkeys("abcdefghij", 1)
    low, high = statistics.evaluation([episode(t, 0, reward) for t in levels], levels, 1)["ci95"]
    # The chance of ten tasks out of ten alike at the bound is 2.5 %.
    assert (1 - high) ** 10 == pytest.approx(0.025) if reward == 0.0 else low**10 == pytest.approx(0.025)


def test_difference_is_paired_by_task():
    before = {"a": 0.0, "b": 0.5, "c": 1.0}
    found = statistics.difference(before, {"c": 1.0, "b": 1.0, "a": 0.5})
    steps = [0.5, 0.5, 0.0]
    error = 1.959964 * reference.stdev(steps) / math.sqrt(3)
    assert found["mean"] == pytest.approx(1 / 3)
    assert found["ci95"] == [pytest.approx(1 / 3 - error, abs=1e-5), pytest.approx(1 / 3 + error, abs=1e-5)]
    with pytest.raises(InputError, match="cannot be paired"):
        statistics.difference(before, {"a": 0.0})


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_subsets_with_a_right_one(numbers):
    n, correct, k = numbers
    subsets = list(itertools.combinations([1] * correct + [0] * (n - correct), k))
    expected = Fraction(sum(any(subset) for subset in subsets), len(subsets))
    assert statistics.pass_at_k(n, correct, k) == pytest.approx(float(expected))


def test_an_attempt_cannot_be_there_twice_or_be_another_tasks():
    with pytest.raises(InputError, match="there twice"):
        statistics.task_means([episode("a", 0, 1.0), episode("a", 0, 1.0)], 2)
    with pytest.raises(InputError, match="not one of 2"):
        statistics.task_means([episode("a", 2, 1.0)], 2)
    with pytest.raises(InputError, match="task x is not among"):
        statistics.evaluation([episode("x", 0, 1.0)], {"a": 1}, 1)
