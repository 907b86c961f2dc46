"""The simulated makespan against what is proved of list scheduling, and against small cases by hand."""

from itertools import product
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.errors import InputError
from aworld.planning.simulate import Preemption, episode_lengths, makespan, run_seconds

pytestmark = pytest.mark.unit
SECONDS = st.lists(st.floats(0.1, 1000), min_size=1, max_size=60)


@given(SECONDS, st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_no_schedule_beats_the_longest_episode_or_the_mean_load(
    episodes: list[float], workers: int, slots: int, longest_first: bool
) -> None:
    found = makespan(episodes, workers, slots, longest_first=longest_first)
    bound = max(max(episodes), sum(episodes) / (workers * slots))
    assert bound <= found.seconds * (1 + 1e-9)
    assert found.seconds <= sum(episodes) / (workers * slots) + max(episodes) + 1e-6  # Graham 1966: any list
    assert found.busy == pytest.approx(sum(episodes) / (workers * slots * found.seconds))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_longest_first_is_close_to_the_best(episodes: list[int], slots: int) -> None:
    """Graham 1969: at most 4/3 − 1/(3m) times the optimum, found here by trying every assignment."""
    best = min(
        max(sum(s for s, at in zip(episodes, places, strict=True) if at == slot) for slot in range(slots))
        for places in product(range(slots), repeat=len(episodes))
    )
    found = makespan(episodes, slots, 1).seconds
    assert best <= found <= (4 / 3 - 1 / (3 * slots)) * best + 1e-9


def test_a_case_by_hand() -> None:
    """Graham's own: 5 5 4 4 3 3 3 on three machines takes 11, where 9 would do."""
    assert makespan([3, 4, 5, 3, 5, 4, 3], 3, 1).seconds == 11
    assert makespan([3, 4, 5, 3, 5, 4, 3], 1, 3).seconds == 11
    assert makespan([1, 1, 1, 9], 2, 1, longest_first=False).seconds == 10


@given(SECONDS, st.integers(0, 2**31))
def test_preempted_rounds_are_the_same_by_seed_and_lose_what_was_in_flight(episodes: list[float], seed: int) -> None:
    often = Preemption(per_hour=6, away_seconds=100)
    found = makespan(episodes, 3, 4, often, seed=seed)
    assert found == makespan(episodes, 3, 4, often, seed=seed)
    assert (found.lost_seconds > 0) <= (found.preemptions > 0)
    work = 12 * found.seconds
    assert sum(episodes) + found.lost_seconds <= work * (1 + 1e-9)
    assert found.seconds >= max(episodes)


def test_preemption_costs_what_queueing_theory_says() -> None:
    """One slot, episodes of T seconds, preemptions at a rate λ, R seconds away: each takes (1/λ + R)(e^λT − 1)."""
    rate, seconds, away = 3 / 3600, 600.0, 300.0
    episodes = 4000
    found = makespan([seconds] * episodes, 1, 1, Preemption(3, away), seed=0).seconds / episodes
    assert found == pytest.approx((1 / rate + away) * (exp(rate * seconds) - 1), rel=0.05)


def test_workers_that_hardly_live_are_refused() -> None:
    with pytest.raises(InputError, match="an episode of 3600 s would hardly ever end"):
        makespan([3600.0], 1, 1, Preemption(per_hour=6))


def test_a_round_overlaps_the_training_of_the_one_before() -> None:
    assert run_seconds(100, 40, 5, max_lag=0) == 5 * 140
    assert run_seconds(100, 40, 5, max_lag=1) == 5 * 100 + 40  # rollouts follow each other
    assert run_seconds(40, 100, 5, max_lag=1) == 40 + 5 * 100  # training does
    assert run_seconds(40, 100, 5, max_lag=2) == 40 + 5 * 100


@given(st.integers(0, 2**31))
def test_assumed_lengths_keep_their_mean_and_limit(seed: int) -> None:
    found = episode_lengths(10_000, 10**9, 512, seed)
    assert sum(found) / len(found) == pytest.approx(10_000, rel=0.001)
    assert max(episode_lengths(10_000, 12_000, 512, seed)) == 12_000
    assert found == episode_lengths(10_000, 10**9, 512, seed)
