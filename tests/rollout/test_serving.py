"""A worker's shard goes from a whole policy to a delta, by a copy on its node."""

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from aworld import plugins
from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Observation, Sampling
from aworld.config import CONFIGS, Config
from aworld.inference.client import VllmPolicy
from aworld.phase import Phase
from aworld.policies.folder import Deltas, chain
from aworld.policies.reading import copy_policy
from aworld.policies.weights import ONLY
from aworld.policies.writing import Writer
from aworld.publish import begin_folder, finish_folder
from aworld.rollout.players import player
from aworld.rollout.serving import Serving
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.tasks.task import Task

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


class NoTools:
    tools: ClassVar[list[dict[str, Any]]] = []
    independent = ()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        raise AssertionError(name)


async def check_a_player_of_ones_own(config: Config, serving: Serving, file: Path) -> None:
    """The documents' example plays by the run's copy of its file, and its tokens are those that the policy saw."""
    page = (CONFIGS.parent / "docs" / "your-own-parts.md").read_text()
    (text,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "PolicyPlayer" in block)
    file.write_text(text)
    plugins.keep({"agent.player": str(file)}, serving.run.own)
    file.unlink()
    agent = replace(config.agent, player=str(file), max_turns=1, turn_tokens=8)
    workload = Workload(Phase.ROUND, "round 1", serving.run.round(1), 1, [], 1, 1.0, range(1))
    plays = await player(replace(config, agent=agent), workload, serving)
    episode = await plays.play(Task("t", "What is 2+2?", "4", 1), 0, 7, NoTools())
    chat = ChatFormat(serving.run.policy(0))
    prompt = chat.prompt(agent.system_prompt, "What is 2+2? Be brief.", [])
    assert list(episode.token_ids[: len(prompt)]) == prompt and sum(episode.mask) > 0


def test_a_shard_serves_a_whole_policy_and_then_a_delta(
    config: Config, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    config = replace(config, site=replace(config.site, scratch=str(tmp_path / "scratch")))
    run, writer = RunDir(tmp_path / "run"), Writer(keeps=True)
    tensors = load_file(checkpoint() / ONLY)
    for version in range(2):
        folder = begin_folder(run.policy(version))
        shutil.copytree(checkpoint(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ONLY))
        data = np.frombuffer(save(tensors, {"format": "pt"}), np.uint8)
        written = writer.write(folder, version, [(ONLY, data)], version - 1 if version else None)
        if written.made:
            Deltas(0, written.made).write(folder)
        finish_folder(folder, run.policy(version), written.files)
        tensors["model.norm.weight"] *= -3  # another distribution by few values
    assert chain(run, 1) == [0, 1]

    async def scenario() -> None:
        serving = Serving(config, run, "test")
        prompt = ChatFormat(checkpoint()).prompt("Answer.", "What is 2+2?", [])
        for version in range(2):
            shard = await serving.shard(range(version + 1))
            completion = await VllmPolicy(shard, ()).generate(prompt, Sampling(max_tokens=16, seed=3))
            whole = tmp_path / str(version)
            whole.mkdir()
            copy_policy(run, version, whole)
            model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
            with torch.no_grad():
                logits = model(torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1)[torch.arange(len(completion.token_ids)), completion.token_ids]
            assert (torch.tensor(completion.logprobs) - expected).abs().max() < 1e-3
            if not version:
                await check_a_player_of_ones_own(config, serving, tmp_path / "player.py")
            (copy,) = (tmp_path / "scratch").glob("aworld-*/policies/*/*-????????")
            assert shard.policy == copy and copy.name.startswith(f"000{version}-")
        await serving.stop()
        assert not list((tmp_path / "scratch").glob("aworld-*/policies/*/*-*"))

    asyncio.run(scenario())
