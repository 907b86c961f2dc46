"""Which groups of a round are counted, and which are trained on where rollout has played others in their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.rollout.spread import has_spread
from aworld.training.batching import lost
from aworld.training.groups import count, with_spread
from aworld.trajectories import arrays
from aworld.trajectories.arrays import COLUMNS, Trajectories
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit
SHARE = 0.25

attempts = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["answered", "timeout", "infra_error"]),
    st.sampled_from([0, 2, 9]),
)


def episode(task: int, attempt: int, reward: float, status: str, stalled: float) -> Episode:
    tokens = [task, attempt, 7]
    seconds = {"total": 10.0, "stalled": stalled}
    return Episode(
        1, f"task-{task}", attempt, 1, "", tokens, [0, 1, 1], [0.0] * 3, [], None, reward, status, seconds, 0, 0
    )  # type: ignore[arg-type]


@given(st.lists(st.lists(attempts, min_size=1, max_size=4), min_size=1, max_size=5))
def test_rollout_and_training_agree_on_the_groups_with_spread(groups: list[list[tuple]]) -> None:
    played = [[episode(task, at, *row) for at, row in enumerate(group)] for task, group in enumerate(groups)]
    trajectories = arrays.from_episodes(1, [e for group in played for e in group])
    kept = [e for group in played for e in group if has_spread(None if x.is_lost(SHARE) else x.reward for x in group)]
    trained = with_spread(trajectories, SHARE)
    assert trained.episodes["task_id"].tolist() == [e.task_id.encode() for e in kept]
    assert trained.tokens.tolist() == [token for e in kept for token in e.token_ids]
    counted = count(trajectories, SHARE)
    assert counted["groups"] - counted["groups_of_one_reward"] == len({e.task_id for e in kept})
    assert [e.is_lost(SHARE) for group in played for e in group] == lost(trajectories.episodes, SHARE).tolist()


def test_groups_in_which_all_have_one_reward_are_counted():
    rows = np.zeros(6, COLUMNS)
    rows["task_id"] = [b"a", b"a", b"b", b"b", b"c", b"c"]
    rows["reward"] = [0, 1, 0, 0, 0.5, 0.5]
    none = np.zeros(0, np.int32)
    found = count(Trajectories(1, none, none, none, np.zeros(7, np.int64), rows))
    assert found == {"groups": 3, "groups_of_one_reward": 2}
    rows["status"] = [b"infra_error", b"answered", *([b"answered"] * 4)]  # the attempt that is left teaches nothing
    lost = count(Trajectories(1, none, none, none, np.zeros(7, np.int64), rows))
    assert lost == {"groups": 3, "groups_of_one_reward": 3}
    assert count(Trajectories(1, none, none, none, np.zeros(1, np.int64), rows[:0]))["groups"] == 0
