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
from aworld.tasks.task import Task
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


@pytest.mark.parametrize("tasks", [1, 5, 50, 500])
@pytest.mark.parametrize("reward", [0.0, 0.5, 1.0])
def test_an_interval_is_never_empty(tasks, reward):
    mean, (low, high) = statistics.score(np.full(tasks, reward))
    assert mean == reward and 0 <= low <= mean <= high <= 1 and high - low > 0.8 / tasks


def test_intervals_of_neighbours_are_alike():
    """One more right task of 50 moves the bounds by a little, also at the end of the scale; and more tasks say more."""
    bounds = [statistics.score(np.array([1.0] * right + [0.0] * (50 - right)))[1] for right in range(51)]
    for (low, high), (next_low, next_high) in itertools.pairwise(bounds):
        assert 0 <= next_low - low < 0.04 and 0 <= next_high - high < 0.04
    highs = [statistics.score(np.zeros(n))[1][1] for n in (1, 5, 10, 50, 500)]
    assert highs == sorted(highs, reverse=True) and highs[1] < 0.6 and highs[-1] < 0.01


@pytest.mark.parametrize(("tasks", "chance"), [(5, 0.02), (5, 0.5), (20, 0.05), (20, 0.3), (100, 0.01), (100, 0.95)])
def test_an_interval_of_few_tasks_holds_the_truth_as_often_as_it_says(tasks, chance):
    found = np.random.default_rng(0).random((2000, tasks)) < chance
    intervals = [statistics.score(row.astype(float))[1] for row in found]
    assert np.mean([low <= chance <= high for low, high in intervals]) > 0.93


def test_equal_tasks_do_not_show_that_nothing_differs():
    levels = [str(n) for n in range(5)]
    found = statistics.difference(dict.fromkeys(levels, 0.0), dict.fromkeys(levels, 0.0))
    assert found["mean"] == 0.0 and found["ci95"][0] == -found["ci95"][1] and found["ci95"][1] > 0.2


def test_the_mean_of_parts_of_1_is_called_mean_reward():
    played = [episode("a", 0, 1.0), episode("a", 1, 0.5), episode("b", 0, 0.0), episode("b", 1, 0.5)]
    found = statistics.evaluation(played, {"a": 1, "b": 1}, attempts=2)
    assert (found["measure"], found["mean_reward"], found["pass_at_1"]) == ("mean reward", 0.5, 0.25)
    tasks = [Task(name, "?", "x", 1) for name in "ab"]
    assert statistics.headline(tasks, played, 2) == "mean reward 50.0 %"
    assert statistics.headline(tasks, played[::2], 2) == "pass@1 25.0 %"  # one is right, two are missing
    withheld = [Task(name, "?", None, 1) for name in "ab"]
    assert statistics.headline(withheld, played, 2) == "0 of 4 attempts answered; no gold answers are here"


def test_difference_is_paired_by_task():
    before = {"a": 0.0, "b": 0.5, "c": 1.0}
    found = statistics.difference(before, {"c": 1.0, "b": 1.0, "a": 0.5})
    steps = [0.5, 0.5, 0.0]
    assert found["mean"] == pytest.approx(1 / 3)
    counted = [*steps, 1.0, -1.0]  # one imaginary task gained, one lost
    error = 1.959964 * reference.stdev(counted) / math.sqrt(5)
    assert found["ci95"] == [pytest.approx(0.2 - error, abs=1e-5), pytest.approx(min(0.2 + error, 1), abs=1e-5)]
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
