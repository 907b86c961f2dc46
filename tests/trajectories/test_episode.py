"""Which episodes may be stored."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aworld.trajectories import arrays
from aworld.trajectories.episode import Episode, storable

pytestmark = pytest.mark.unit


def test_a_sound_episode_stays_as_it_is(episode: Callable[..., Episode], capsys: pytest.CaptureFixture[str]) -> None:
    for one in (episode(), episode(attempt=1, reward=1), episode(token_ids=[], mask=[], logprobs=[])):
        assert storable(one) is one
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logprobs": [0.0] * 19 + [math.nan]}, "token 19 has a log-probability that is not finite"),
        ({"logprobs": [-math.inf] + [0.0] * 19}, "token 0 has a log-probability that is not finite"),
        ({"logprobs": [0.0]}, "20 token ids, a mask of 20, 1 log-probabilities"),
        ({"token_ids": [0] * 19 + [2**31]}, "2147483648 is no token id"),
        ({"token_ids": [-1] * 20}, "-1 is no token id"),
        ({"reward": math.nan}, "its reward is nan"),
        ({"reward": None}, "its reward is None"),
    ],
)
def test_another_costs_itself_and_says_so(
    changes: dict[str, Any], reason: str, episode: Callable[..., Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    found = storable(episode("train-7", 1, **changes))
    assert (found.status, found.reward, found.error, found.answer) == ("infra_error", 0.0, reason, "4")
    assert f"attempt 1 at train-7 of round 1 is not used: {reason}" in capsys.readouterr().err
    trajectories = arrays.from_episodes(1, [episode(), found])
    assert np.isfinite(trajectories.logprobs).all() and np.diff(trajectories.offsets).tolist() == [20, 0]
