"""Who plays an attempt: the policy with our agents, a user's program or player; the expert, or an endpoint's model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from aworld import plugins
from aworld.agents.chat import ChatFormat
from aworld.agents.endpoint import EndpointModel
from aworld.agents.gateway import Gateway
from aworld.agents.protocols import Environment
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel
from aworld.config import Config
from aworld.errors import InfrastructureError, InputError
from aworld.inference.client import VllmPolicy
from aworld.inference.shard import VllmShard
from aworld.phase import Phase
from aworld.rollout.own_player import OwnPlayer
from aworld.rollout.program import ProgramTeam
from aworld.rollout.serving import Serving
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

GROUP = "aworld.players"  # of entry points


class Player(Protocol):
    """Plays one attempt at a task.

    Raises:
        InfrastructureError: it can play no further attempt either.
    """

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode: ...


class PolicyPlayer:
    """The policy that a shard serves.

    Args:
        gateway: through which the program of `agent.program` asks the policy; None: our own agents do.
    """

    def __init__(self, config: Config, workload: Workload, shard: VllmShard, gateway: Gateway | None = None):
        agent = replace(config.agent, temperature=workload.temperature)
        chat = ChatFormat(shard.policy, agent.answer_form, agent.enable_thinking)
        self._shard, self._round = shard, workload.round
        model = PolicyModel(VllmPolicy(shard, chat.ends), chat, agent, shard.context)
        self._team = ProgramTeam(agent, model, gateway, config.site.scratch) if gateway else Team(agent, model)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        starts = await self._shard.ready()
        episode = await self._team.run(task, environment, round=self._round, attempt=attempt, seed=seed)
        if episode.status in ("timeout", "infra_error") and await self._shard.revive(starts):
            return replace(episode, status="infra_error", error="vLLM hung, and was started again")
        return episode


class ExpertPlayer:
    """The scripted expert of tasks that bring a plan. Its turns have the tokens that the policy would sample."""

    def __init__(self, config: Config, workload: Workload, chat: ChatFormat):
        self._config, self._round, self._chat = config, workload.round, chat

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        agent, context = self._config.agent, self._config.model.shard.max_model_len
        policy = ScriptedPolicy(self._chat, task.metadata["plan"])
        team = Team(agent, PolicyModel(policy, self._chat, agent, context))
        return await team.run(task, environment, round=self._round, attempt=attempt, seed=seed)


class EndpointPlayer:
    """A model behind an endpoint, in the place of the policy."""

    def __init__(self, config: Config, workload: Workload):
        agent = replace(config.agent, temperature=workload.temperature)
        self._model, self._round = EndpointModel(config.evaluation.endpoint, agent), workload.round
        self._team = Team(agent, self._model)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        episode = await self._team.run(task, environment, round=self._round, attempt=attempt, seed=seed)
        if episode.status == "infra_error" and not await self._model.is_there():  # so would be each later episode
            raise InfrastructureError(episode.error)
        return replace(episode, policy_version=self._round)


def own_player(config: Config, copies: Path) -> Callable[[Config, Workload, VllmShard], Player]:
    """The player that `agent.player` names, by what makes it.

    Args:
        copies: the folder of a run where the user's files are kept, `plugins.FOLDER`.

    Raises:
        InputError: there is no such file or entry point, it cannot be loaded, or another setting says who plays.
    """
    name = config.agent.player
    if config.agent.program.command:
        raise InputError(f"agent.player={name} and agent.program.command both play the episodes; leave one of them out")
    if config.evaluation.endpoint.model:
        raise InputError(
            f"agent.player={name} plays a policy of ours, and evaluation.endpoint.model is to be evaluated; leave "
            "one of them out"
        )
    make = plugins.load(name, setting="agent.player", group=GROUP, copies=copies, default="Player")
    if not callable(getattr(make, "play", None)):
        raise InputError(f"agent.player={name} has no method play(task, attempt, seed, environment); add it")
    made: Callable[[Config, Workload, VllmShard], Player] = make
    return made


async def player(config: Config, workload: Workload, serving: Serving) -> Player:
    """The player of a workload. The policy's is the only one that needs vLLM, and may wait for its start.

    Raises:
        InputError: as `own_player`.
        InfrastructureError: as `Serving.shard`.
    """
    match workload.phase:
        case Phase.COLD_START:
            chat = ChatFormat(serving.run.base, enable_thinking=config.agent.enable_thinking)
            return ExpertPlayer(config, workload, chat)
        case Phase.EVALUATION if config.evaluation.endpoint.model:
            return EndpointPlayer(config, workload)
        case _:
            shard = await serving.shard(workload.policies)
            if config.agent.player:
                return OwnPlayer(own_player(config, serving.run.own), config, workload, shard)
            gateway = await serving.gateway() if config.agent.program.command else None
            return PolicyPlayer(config, workload, shard, gateway)
