"""The user's own player. Its exceptions and wrong episodes become one line, which names its file."""

from collections.abc import Callable
from typing import Any

from aworld import plugins
from aworld.agents.protocols import Environment
from aworld.config import Config
from aworld.errors import InputError
from aworld.inference.shard import VllmShard
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode


class OwnPlayer:
    """The player that `make(config, workload, shard)` returns, for `agent.player`.

    Raises:
        InputError: it cannot be made.
    """

    def __init__(
        self, make: Callable[[Config, Workload, VllmShard], Any], config: Config, workload: Workload, shard: VllmShard
    ):
        self._name, self._round = config.agent.player, workload.round
        with plugins.named_failure(f"agent.player={self._name}", self._name):
            self._player = make(config, workload, shard)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        """
        Raises:
            InputError: the player raises an error of its own, or returns no episode of this attempt.
            InfrastructureError: the player raises it.
        """
        with plugins.named_failure(f"agent.player={self._name}", self._name):
            episode = await self._player.play(task, attempt, seed, environment)
        if not isinstance(episode, Episode):
            raise InputError(
                f"agent.player={self._name}: play returned a {type(episode).__name__} for task {task.task_id!r}; "
                "return an Episode"
            )
        if episode.identity != (wanted := (self._round, task.task_id, attempt)):
            raise InputError(
                f"agent.player={self._name}: play returned the episode {episode.identity} (round, task_id, attempt) "
                f"where {wanted} was asked for; keep these of the task that it gets"
            )
        return episode
