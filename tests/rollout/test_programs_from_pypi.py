"""Unchanged agents from PyPI play through the gateway; each stored token is one that vLLM gave, or was given."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from program_venv import program_venv
from transformers import AutoModelForCausalLM

from aworld import config as configuration
from aworld.agents.chat import ChatFormat
from aworld.agents.gateway import Gateway
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel
from aworld.config import AgentProgram, Config
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import choose
from aworld.errors import InputError
from aworld.inference.shard import VllmShard
from aworld.phase import Phase
from aworld.rollout.players import PolicyPlayer
from aworld.rollout.workload import Workload
from aworld.tasks.synthetic import SyntheticTasks
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1200)]

PROGRAMS = Path(__file__).with_name("programs")
PACKAGES = {
    "langgraph_agent": ("langchain==1.5.2", "langchain-openai==1.7.4", "langchain-mcp-adapters==0.3.2"),
    "openai_agent": ("openai-agents==0.24.0",),
    "smolagents_agent": ("smolagents[openai]==1.26.0", "mcpadapt==0.1.19", "mcp[ws]<2"),
}
CONTEXT = 8192  # smolagents' own prompt is long
STEPS = 150
Given = tuple[list[int], list[int], list[float]]  # to vLLM: a prompt; by vLLM: token ids and log-probabilities


@pytest.fixture(scope="module")
def venvs() -> dict[str, Path]:
    try:
        return {name: program_venv(name, *packages) for name, packages in PACKAGES.items()}
    except InputError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def demo() -> Config:
    words = [f"model.shard.max_model_len={CONTEXT}", "agent.max_tokens=1000", "agent.episode_seconds=240"]
    return configuration.load(["recipe=demo", "environment.slots=2", *words])


@pytest.fixture(scope="module")
def tasks(source: SyntheticTasks) -> list[Task]:
    """One of each level."""
    held_out = list(source.tasks("held_out"))
    return [next(task for task in held_out if task.level == level) for level in (1, 2, 3)]


@pytest.fixture(scope="module")
def policy(demo: Config, source: SyntheticTasks, tasks: list[Task], checkpoint: Callable[..., Path], once: Any) -> Path:
    """One that knows by heart how the expert solves the tasks."""

    def make(folder: Path) -> None:
        chat = ChatFormat(checkpoint())

        async def shown() -> list[Episode]:
            async with EnvironmentPool(demo.environment, choose("auto", ""), source.corpus, folder) as pool:
                found = []
                for task in tasks:
                    model = PolicyModel(ScriptedPolicy(chat, task.metadata["plan"]), chat, demo.agent, CONTEXT)
                    async with pool.episode(task.files) as environment:
                        team = Team(demo.agent, model)
                        found.append(await team.run(task, environment, round=0, attempt=0, seed=0))
                return found

        torch.set_num_threads(1)  # threads that share a busy core would wait for each other
        model = AutoModelForCausalLM.from_pretrained(checkpoint(), dtype=torch.float32)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        episodes = asyncio.run(shown())
        for step in range(STEPS):
            episode = episodes[step % len(episodes)]
            ids, mask = torch.tensor([episode.token_ids]), torch.tensor(episode.mask[1:]).bool()
            loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1][mask], ids[0, 1:][mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.config.max_position_embeddings = CONTEXT
        chat.tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)

    return once("policy-by-heart", make)


def check_tokens(given: list[Given], episodes: list[Episode]) -> None:
    """What vLLM gave is stored behind its prompt, with log-probabilities and mask; nothing else has the mask."""
    contexts = []
    for episode in episodes:
        starts = [*(context.start for context in episode.contexts), len(episode.token_ids)]
        spans = [slice(*pair) for pair in pairwise(starts)]
        contexts += [(episode.token_ids[one], episode.mask[one], episode.logprobs[one]) for one in spans]
    for prompt, token_ids, logprobs in given:
        span = slice(len(prompt), len(prompt) + len(token_ids))
        assert any(
            ids[: span.stop] == prompt + token_ids and mask[span] == [1] * len(token_ids) and found[span] == logprobs
            for ids, mask, found in contexts
        )
    assert sum(len(token_ids) for _, token_ids, _ in given) == sum(sum(mask) for _, mask, _ in contexts) > 0


def test_three_agents_play_and_every_stored_token_is_vllms(venvs, demo, source, tasks, policy, tmp_path):
    given: list[Given] = []

    class Noting(VllmShard):
        async def complete(self, request: dict[str, Any]) -> Any:
            asked = [*request["token_ids"]]  # the list grows by the turn
            answer = await super().complete(request)
            (choice,) = answer["choices"]
            logprobs = [each["logprob"] for each in choice["logprobs"]["content"]]
            given.append((asked, choice["token_ids"], logprobs))
            return answer

    async def play(name: str, shard: VllmShard, gateway: Gateway, pool: EnvironmentPool) -> list[Episode]:
        script = PROGRAMS / f"{name}.py"
        program = AgentProgram([f"{venvs[name]}/bin/python", str(script)], "", [str(venvs[name]), str(script)])
        config = replace(demo, agent=replace(demo.agent, program=program))
        workload = Workload(Phase.EVALUATION, "programs", tmp_path, 0, tasks, 1, 1.0, range(1))
        player = PolicyPlayer(config, workload, shard, gateway)

        async def one(task: Task) -> Episode:
            async with pool.episode(task.files) as environment:
                return await player.play(task, 0, 7, environment)

        given.clear()
        episodes = await asyncio.gather(*map(one, tasks))
        check_tokens(given, episodes)
        return episodes

    async def scenario() -> None:
        gateway = Gateway()
        await gateway.start()
        async with (
            Noting(policy, 0, demo.model, tmp_path / "vllm.log") as shard,
            EnvironmentPool(demo.environment, choose("auto", ""), source.corpus, tmp_path) as pool,
        ):
            for name in PACKAGES:
                episodes = await play(name, shard, gateway, pool)
                assert {episode.status for episode in episodes} <= {"answered", "no_answer", "max_turns"}, name
                if name != "smolagents_agent":  # whose prompt this policy has never seen
                    right = [source.score(e.answer, task) for e, task in zip(episodes, tasks, strict=True)]
                    assert sum(right) >= 2, [(e.status, e.answer, e.error) for e in episodes]
                    assert [len(e.contexts) for e in episodes] == [1, 1, 1]
                    assert sum(len(e.tool_turns) for e in episodes) >= 3
        await gateway.stop()

    asyncio.run(scenario())
