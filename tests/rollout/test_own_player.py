"""A player of the user's own that fails, or plays another episode than it was asked for."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aworld import config as configuration
from aworld.errors import InfrastructureError, InputError
from aworld.phase import Phase
from aworld.rollout.own_player import OwnPlayer
from aworld.rollout.players import own_player
from aworld.rollout.scoring import answered
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit
TASK = Task("t", "What is 2+2?", "4", 1)
PLAYER = """
from dataclasses import replace
from aworld.errors import InfrastructureError
from aworld.rollout.scoring import answered

class Player:
    def __init__(self, config, workload, shard):
        {make}

    async def play(self, task, attempt, seed, environment):
        episode = replace(answered(task, "4"), round=3, attempt=attempt)
        {play}
        return episode
"""


def played(folder: Path, make: str = "pass", play: str = "pass") -> Episode:
    file = folder / "mine.py"
    file.write_text(PLAYER.format(make=make, play=play))
    config = configuration.load(["recipe=demo", f"agent.player={file}"])
    workload = Workload(Phase.ROUND, "round 3", folder, 3, [TASK], 2, 1.0, range(3))
    shard: Any = None
    player = OwnPlayer(own_player(config, folder / "own"), config, workload, shard)
    environment: Any = None
    return asyncio.run(player.play(TASK, 1, 7, environment))


def test_its_episode_is_taken(tmp_path: Path) -> None:
    assert played(tmp_path) == replace(answered(TASK, "4"), round=3, attempt=1)


@pytest.mark.parametrize(
    ("make", "play", "said"),
    [
        ("[][0]", "pass", "{file} line 8: IndexError: list index out of range; mend the file"),
        ("pass", "task.questions", "{file} line 12: AttributeError: 'Task' object has no attribute 'questions'; mend"),
        ("pass", "episode = None", "play returned a NoneType for task 't'; return an Episode"),
        ("pass", "episode = replace(episode, round=2)", "play returned the episode (2, 't', 1) (round, task_id, att"),
        (
            "pass",
            "episode = replace(episode, attempt=0)",
            "the episode (3, 't', 0) (round, task_id, attempt) where (3, ",
        ),
        ("pass", "episode = replace(episode, task_id='u')", "where (3, 't', 1) was asked for; keep these of the task"),
    ],
)
def test_what_it_does_wrong_is_one_line(tmp_path: Path, make: str, play: str, said: str) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(InputError, match=rf"^agent\.player={file}: .*{re.escape(said.format(file=file))}"):
        played(tmp_path, make, play)


def test_a_failure_of_the_machine_stays_one(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="the shard is gone"):
        played(tmp_path, play="raise InfrastructureError('the shard is gone')")
