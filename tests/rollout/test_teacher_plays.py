"""A teacher behind a real endpoint plays the demo's tasks; its right episodes make policy 0."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import warm
from endpoint_model import Model, python

from aworld.agents.chat import ChatFormat
from aworld.agents.turns import parts
from aworld.publish import is_complete
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source
from aworld.tasks.task import Task
from aworld.trajectories import journal

pytestmark = pytest.mark.timeout(600)
WORDS = "recipe=demo site=local name=run tasks.train=6 tasks.held_out=2 pipeline.rounds=0 environment.slots=2"
WORDS += " model.parallel.tensor_model_parallel_size=1 site.train.tasks_per_node=1 site.rollout.elements=1"
WORDS += " training.cold_start.tasks=3 training.cold_start.attempts=2 training.cold_start.epochs=1"
WORDS += " rollout.infra_retries=0 agent.max_tokens=400 agent.turn_tokens=200 site.gather.tasks_per_node=1"
THOUGHT = "I look it up."


class Teacher:
    """Follows the plans of tasks, with a thought before each turn; what it says of `wrong` is wrong."""

    def __init__(self) -> None:
        self.plans: dict[str, list[str]] = {}
        self.wrong = ""

    def learn(self, tasks: list[Task]) -> None:
        self.plans = {task.question: task.metadata["plan"] for task in tasks}
        self.wrong = tasks[0].question

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        question = body["messages"][1]["content"].partition("\n\nAttached:")[0]
        if question == self.wrong:
            return {"content": "<answer>nonsense</answer>"}
        turn = parts(self.plans[question][sum(message["role"] == "assistant" for message in body["messages"])])
        calls = [
            {"id": f"c{n}", "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for n, c in enumerate(turn.calls)
        ]
        return {"content": turn.words, "reasoning_content": THOUGHT, **({"tool_calls": calls} if calls else {})}


def stage(run: RunDir, *words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "aworld", words[0], str(run.root), *words[1:])


@pytest.mark.engine
def test_a_teacher_plays_and_the_policy_learns_from_its_right_episodes(tmp_path: Path) -> None:
    teacher = Teacher()
    with Model(teacher) as model:
        words = [*WORDS.split(), f"runs={tmp_path}", "training.cold_start.teacher.model=guest"]
        prepared = python("-m", "aworld", "prepare", *words, f"training.cold_start.teacher.base_url={model.address}")
        assert prepared.returncode == 0, prepared.stderr
        config, run = open_run(tmp_path / "run")
        tasks = list(make_source(config.tasks, run.tasks).tasks("train"))[:3]
        teacher.learn(tasks)
        assert (done := stage(run, "rollout", "--round", "0")).returncode == 0, done.stderr
        asked = len(model.asked)
        assert (done := stage(run, "rollout", "--round", "0")).returncode == 0  # nothing is asked twice
        assert len(model.asked) == asked and len({body["seed"] for body in model.asked}) == asked
        model.shutdown()
    episodes = journal.collect(run.round(0) / "journals")
    right = [episode for episode in episodes if episode.question != teacher.wrong]
    assert [(e.reward, e.status) for e in right] == [(1.0, "answered")] * 4
    assert [e.reward for e in episodes if e.question == teacher.wrong] == [0.0] * 2
    assert {e.sampling["temperature"] for e in episodes} == {1.0} and {e.policy_version for e in episodes} == {-1}
    chat = ChatFormat(run.base)
    for episode in right:
        text = chat.decode(episode.token_ids)
        plan = teacher.plans[episode.question]
        assert text.count(f"assistant\n<think>\n{THOUGHT}\n</think>\n\n") == len(plan) == text.count("assistant\n")
        assert all(f"</think>\n\n{turn}<|im_end|>" in text for turn in plan)
    assert stage(run, "gather", "--round", "0").returncode == 0
    assert (done := warm.aworld("train", str(run.root), "--round", "0")).returncode == 0, done.stderr
    (step,) = [json.loads(line) for line in (run.round(0) / "steps.jsonl").read_text().splitlines()]
    assert step["tokens"] == sum(sum(episode.mask) for episode in right)
    assert is_complete(run.policy(0))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.base, run.policy(0))]
    assert weights[0] != weights[1]


@pytest.mark.tools
def test_a_teacher_that_goes_away_stops_the_worker_and_is_named(tmp_path: Path) -> None:
    with Model(lambda _: 500) as model:
        words = [*WORDS.split(), f"runs={tmp_path}", "training.cold_start.teacher.model=guest"]
        prepared = python("-m", "aworld", "prepare", *words, f"training.cold_start.teacher.base_url={model.address}")
        assert prepared.returncode == 0 and "warning" not in prepared.stderr
        model.shutdown()
        model.server_close()
    done = stage(RunDir(tmp_path / "run"), "rollout", "--round", "0")
    assert done.returncode == 4 and f"guest at {model.address} did not answer" in done.stderr
