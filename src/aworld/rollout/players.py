"""Who plays an attempt: the policy with our agents, a user's program or player; the expert, a teacher, or an endpoint's
model."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aworld import plugins
from aworld.agents.chat import ChatFormat, tokenizer_class
from aworld.agents.endpoint import EndpointModel
from aworld.agents.protocols import Environment
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.teacher import TeacherModel
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel, TokenModel
from aworld.config import Agent, Config
from aworld.errors import InfrastructureError, InputError
from aworld.phase import Phase
from aworld.rollout.serving import NO_POLICY, Serving
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

if TYPE_CHECKING:  # what takes long to import is imported where it is needed
    from aworld.agents.gateway import Gateway
    from aworld.inference.shard import VllmShard
    from aworld.rollout.program import ProgramTeam

GROUP = "aworld.players"  # of entry points


class Player(Protocol):
    """Plays one attempt at a task.

    Raises:
        InfrastructureError: it can play no further attempt either.
    """

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode: ...


class PolicyPlayer:
    """The policy that a shard serves, or its teacher.

    Args:
        gateway: through which the program of `agent.program` asks the policy; None: our own agents do.
        learner: the format of the policy, where the shard serves its teacher.
    """

    def __init__(
        self,
        config: Config,
        workload: Workload,
        shard: "VllmShard",
        gateway: "Gateway | None" = None,
        learner: ChatFormat | None = None,
    ):
        from aworld.inference.client import VllmPolicy

        agent = replace(config.agent, temperature=workload.temperature)
        chat = ChatFormat(shard.policy, agent.answer_form, agent.enable_thinking or learner is not None)
        self._shard, self._round = shard, workload.round
        policy = PolicyModel(VllmPolicy(shard, chat.ends), chat, agent, shard.context)
        model = TeacherModel(policy, learner, shard.context) if learner else policy
        self._team = _team(config, agent, model, gateway)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        starts = await self._shard.ready()
        episode = await self._team.run(task, environment, round=self._round, attempt=attempt, seed=seed)
        if episode.status in ("timeout", "infra_error") and await self._shard.revive(starts):
            return replace(episode, status="infra_error", error="vLLM was started again meanwhile")
        if episode.status != "infra_error":
            self._shard.played(starts)
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
    """A model behind an endpoint, in the place of the policy that is evaluated."""

    def __init__(self, config: Config, workload: Workload):
        agent = replace(config.agent, temperature=workload.temperature)
        self._model, self._round = EndpointModel(config.evaluation.endpoint, agent), workload.round
        self._team: Team | ProgramTeam = Team(agent, self._model)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        episode = await self._team.run(task, environment, round=self._round, attempt=attempt, seed=seed)
        if episode.status == "infra_error" and not await self._model.is_there():  # so would be each later episode
            raise InfrastructureError(episode.error)
        return replace(episode, policy_version=self._round)


class TeacherPlayer(EndpointPlayer):
    """A teacher behind an endpoint. Its turns get the tokens that the policy would sample.

    Args:
        chat: the format of the policy.
        gateway: as a PolicyPlayer's.
    """

    def __init__(self, config: Config, workload: Workload, chat: ChatFormat, gateway: "Gateway | None" = None):
        agent = replace(config.agent, temperature=workload.temperature)
        teacher = EndpointModel(config.training.cold_start.teacher, agent, is_policy=False)
        self._model, self._round = teacher, workload.round
        model = TeacherModel(teacher, chat, config.model.shard.max_model_len)
        self._team = _team(config, agent, model, gateway)

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        return replace(await super().play(task, attempt, seed, environment), policy_version=NO_POLICY)


def _team(config: Config, agent: Agent, model: TokenModel, gateway: "Gateway | None") -> "Team | ProgramTeam":
    if gateway is None:
        return Team(agent, model)
    from aworld.rollout.program import ProgramTeam

    return ProgramTeam(agent, model, gateway, config.site.scratch)


def own_player(config: Config, copies: Path) -> "Callable[[Config, Workload, VllmShard], Player]":
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
    """The player of a workload. Those of the policy and of a teacher in a folder wait for the start of a vLLM.

    Raises:
        InputError: as `own_player`.
        InfrastructureError: as `Serving.shard`.
    """
    cold = config.training.cold_start
    match workload.phase:
        case Phase.COLD_START if cold.has_expert or cold.has_teacher:
            form = "tag" if cold.has_expert else config.agent.answer_form  # the plans' own
            chat = ChatFormat(serving.run.base, form, config.agent.enable_thinking)
            if cold.has_expert:
                return ExpertPlayer(config, workload, chat)
            gateway = await serving.gateway() if config.agent.program.command else None
            if cold.teacher.model:
                return TeacherPlayer(config, workload, chat, gateway)
            return PolicyPlayer(config, workload, await serving.teacher(Path(cold.teacher.path)), gateway, chat)
        case Phase.EVALUATION if config.evaluation.endpoint.model:
            return EndpointPlayer(config, workload)
        case _:
            # imported while vLLM starts
            shard, _ = await asyncio.gather(serving.shard(workload.policies), asyncio.to_thread(tokenizer_class))
            if config.agent.player:
                from aworld.rollout.own_player import OwnPlayer

                return OwnPlayer(own_player(config, serving.run.own), config, workload, shard)
            gateway = await serving.gateway() if config.agent.program.command else None
            return PolicyPlayer(config, workload, shard, gateway)
