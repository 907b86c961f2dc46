"""What the tests of this folder play, and a policy that remembers."""

import json
from dataclasses import replace

from aworld.agents.protocols import Completion, Sampling
from aworld.agents.scripted import ScriptedPolicy
from aworld.config import Agent, Member
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

TASK = Task("t", "What is 6*7?", "42", 1)
CONFIG = Agent(
    system_prompt="Use tools, then answer.", max_turns=4, max_tokens=400, episode_seconds=30, turn_tokens=200
)


class Recording:
    """A policy that says what another one does, and notes what it was asked."""

    def __init__(self, policy: ScriptedPolicy):
        self.policy = policy
        self.asked: list[tuple[list[int], Sampling]] = []
        self.said: list[Completion] = []

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
        self.asked.append((list(prompt_ids), sampling))
        said = await self.policy.generate(prompt_ids, sampling)
        self.said.append(replace(said, logprobs=[-0.5] * len(said.token_ids), policy_version=7))
        return self.said[-1]


def call(name: str, **arguments: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def team(members: dict[str, Member], **changes: object) -> Agent:
    return replace(CONFIG, members=members, max_turns=12, max_tokens=2000, **changes)  # type: ignore[arg-type]


def owners(episode: Episode) -> list[str]:
    return [context.agent for context in episode.contexts]
