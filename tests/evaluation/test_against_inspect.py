"""The figures against inspect-ai's: its metrics and reducers, over the same attempts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.scorer import SampleScore, Score, mean, mean_score, mode_score, pass_at, stderr

from aworld.evaluation import figures, statistics
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit

# attempts [tasks, attempts], each right (1) or not
OUTCOMES = st.integers(1, 6).flatmap(
    lambda attempts: st.lists(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=attempts, max_size=attempts), min_size=2, max_size=20
    )
)


def episodes(outcomes: list[list[float]]) -> list[Episode]:
    return [
        Episode(0, str(task), attempt, 1, "?", [], [], [], [], None, reward, "answered", {}, 0, 0)
        for task, row in enumerate(outcomes)
        for attempt, reward in enumerate(row)
    ]


@given(OUTCOMES)
def test_pass_at_1_and_its_standard_error_are_those_of_the_scores_reduced_by_task(outcomes):
    reduced = [SampleScore(score=mean_score()([Score(value=value) for value in row])) for row in outcomes]
    figure = statistics.evaluation(episodes(outcomes), {str(n): 1 for n in range(len(outcomes))}, len(outcomes[0]))
    assert figure["pass_at_1"] == pytest.approx(mean()(reduced))
    _, (low, high) = statistics.mean_ci95(np.array([np.mean(row) for row in outcomes]))
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * stderr()(reduced), abs=1e-12)


@given(OUTCOMES)
def test_the_standard_error_is_the_one_clustered_by_task(outcomes):
    scores = [
        SampleScore(score=Score(value=value), sample_metadata={"task": str(task)})
        for task, row in enumerate(outcomes)
        for value in row
    ]
    _, (low, high) = statistics.mean_ci95(np.array([np.mean(row) for row in outcomes]))
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * stderr(cluster="task")(scores), abs=1e-9)


@given(OUTCOMES, st.data())
def test_pass_at_k_is_the_same_estimate(outcomes, data):
    attempts = len(outcomes[0])
    k = data.draw(st.integers(1, attempts))
    for row in outcomes:
        theirs = pass_at(k)([Score(value=value) for value in row])
        assert statistics.pass_at_k(attempts, int(sum(row)), k) == pytest.approx(theirs.value)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=7))
def test_the_majority_is_the_mode(answers):
    """Of equals ours takes the answer given first, and so does inspect-ai."""
    theirs = mode_score()([Score(value=answer) for answer in answers])
    attempts = [
        Episode(0, "t", n, 1, "?", [], [], [], [], answer, 0.0, "answered", {}, 0, 0)
        for n, answer in enumerate(answers)
    ]
    vote = figures.voted(attempts)
    assert vote and vote.answer == theirs.value
