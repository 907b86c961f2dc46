"""Agents in a real environment, with policies that say what they are told to."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from players import CONFIG, TASK, Recording

from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Policy
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel
from aworld.config import Agent, Environment
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import choose
from aworld.trajectories.episode import Episode


@pytest.fixture(scope="session")
def chat(checkpoint: Callable[..., Path]) -> ChatFormat:
    return ChatFormat(checkpoint())


@pytest.fixture(scope="session")
def script(chat: ChatFormat) -> Callable[..., Recording]:
    return lambda *plan: Recording(ScriptedPolicy(chat, list(plan)))


@pytest.fixture(scope="session")
def play(chat: ChatFormat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Episode]]:
    """Play a policy in a real environment, in one event loop for all tests."""
    config = Environment(servers=["python", "files"], slots=1, reuse="reset", call_seconds=5.0)
    pool = EnvironmentPool(config, choose("auto", ""), None, tmp_path_factory.mktemp("scratch"))
    with asyncio.Runner() as runner:
        runner.run(pool.__aenter__())

        def run(policy: Policy, agent: Agent = CONFIG, context: int = 1000) -> Episode:
            async def one() -> Episode:
                async with pool.episode() as environment:
                    team = Team(agent, PolicyModel(policy, chat, agent, context))
                    return await team.run(TASK, environment, round=1, attempt=2, seed=3)

            return runner.run(one())

        yield run
        runner.run(pool.__aexit__())
