"""A user's whole way: from an installed wheel in an empty folder, on a laptop first, then on Slurm under preemption.

The tasks, the reward, the sites, the teacher and the agent program are the user's own.
"""

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import faults
import pytest
from cluster import Cluster
from local_web import Reply, serving
from small_run import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wheel import User

from aworld.publish import is_complete
from aworld.rundir import RunDir
from aworld.trajectories import journal

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]
OWN = Path(__file__).with_name("life")
RECIPE = """
defaults: {{model: tiny, tasks: jsonl, agent: demo}}
tasks: {{path: {place}/train.jsonl, held_out_path: {place}/test.jsonl, reward: "{place}/reward.py:score"}}
environment: {{servers: [python], reuse: reset, slots: 4, result_chars: 200}}
agent: {{program: {{command: [{python}, {place}/agent.py], folders: [{place}/agent.py]}}}}
model: {{architecture: {{hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2}}}}
rollout: {{tasks_per_round: 24, group_size: 8, lease_seconds: 15}}
training:
  lr: 4.0e-4
  adam_beta2: 0.99
  batch_size: 48
  micro_batch_tokens: 4096
  cold_start:
    {{tasks: 256, epochs: 40, batch_size: 32, lr: 5.0e-3, warmup_steps: 20, stop_at: 0.25}}
evaluation: {{attempts: 1}}
trackers: [tensorboard]
"""
LAPTOP = """
name: laptop
rollout: {{elements: 1}}
evaluate: {{elements: 1}}
gather: {{tasks_per_node: 1}}
train: {{tasks_per_node: 2}}
poll_seconds: 0.2
"""
CLUSTER = """
name: cluster
executor: slurm
mpi: pmi2
scratch: /tmp
signal_seconds: 20
rollout: {{partition: low, elements: 2, mem_gb: 4, minutes: 60}}
gather: {{partition: low, nodes: 1, tasks_per_node: 2, mem_gb: 2, minutes: 10}}
train: {{partition: low, nodes: 2, tasks_per_node: 1, mem_gb: 4, minutes: 60}}
evaluate: {{partition: low, elements: 1, mem_gb: 4, minutes: 30}}
poll_seconds: 0.5
queue_seconds: 5
"""


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Sums of two numbers below a hundred, all different."""
    pairs = random.Random(1).sample([(a, b) for a in range(10, 100) for b in range(10, 100)], number)
    for a, b in pairs:
        yield {"id": f"sum-{a}-{b}", "question": f"What is {a}+{b}?", "answer": str(a + b)}


def teach(path: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """What a strong model would say: the sum as a call of the tool, then its result."""
    last = json.loads(body)["messages"][-1]
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if last["role"] == "tool":
        message["content"] = f"<answer>{last['content'].strip()}</answer>"
    else:
        code = last["content"].strip().removeprefix("What is ").removesuffix("?")
        function = {"name": "python", "arguments": json.dumps({"code": code})}
        message["tool_calls"] = [{"id": "call", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return Reply(json.dumps({"choices": [choice], "usage": usage}).encode(), "application/json")


@pytest.fixture
def own(user: User) -> User:
    """The user, with files of the user's own and nothing else."""
    for path in OWN.glob("*.py"):
        shutil.copy(path, user.place)
    made = [json.dumps(row) + "\n" for row in rows(594)]
    (user.place / "train.jsonl").write_text("".join(made[:480]))
    (user.place / "test.jsonl").write_text("".join(made[480:]))
    for kind, name, text in (("recipe", "sums", RECIPE), ("site", "laptop", LAPTOP), ("site", "cluster", CLUSTER)):
        path = user.home / "aworld" / kind / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(place=user.place, python=user.python))
    return user


def test_a_run_of_own_parts_begins_on_a_laptop_and_ends_on_slurm(cluster: Cluster, own: User) -> None:
    with serving(lambda path, headers: Reply(b"", status=405), teach) as address:
        taught = [f"training.cold_start.teacher={{model: strong, base_url: {address}/v1}}"]
        words = ["recipe=sums", "site=laptop", "name=life", *taught]
        assert "no faults" in own.aworld("tasks", "check", *words)
        own.aworld("pipeline", *words, "pipeline.rounds=0")
    run = Run(RunDir(own.place / "runs" / "life"))
    shown = list(journal.collect(run.dir.round(0) / "journals"))
    assert len(shown) == 256 and all(episode.reward == 1 and episode.reward_parts["used"] for episode in shown)

    # the teacher is gone, the allocation is there
    own.aworld("resume", str(run.dir.root), "site=cluster", "pipeline.mode=resident", "pipeline.rounds=3")
    run.wait_for(lambda: run.episodes(2) > 8, "a round on Slurm")
    faults.preempt(cluster, run, run.job("rollout"))
    run.wait_for_jobs()
    assert is_complete(run.dir.policy(3)), run.last_words()
    assert max(run.restarts("rollout"), run.restarts("train")) > 0  # it was preempted

    report = json.loads((run.dir.root / "report.json").read_text())["evaluation"]
    # The model began with random weights, which answer none of the held-out questions.
    assert report["after"]["ci95"][0] > 0.1, report
    figures = EventAccumulator(str(run.dir.root / "trackers" / "tensorboard" / "rounds"))
    figures.Reload()
    assert [event.step for event in figures.Scalars("reward/mean")] == [0, 1, 2, 3]
