"""A training on a real Slurm, hit by one fault: it comes back, and makes the policy that it would have made."""

from pathlib import Path

import pytest
import torch
from cluster import Cluster
from faults import Fault, lose_the_node, preempt, requeue, restart_the_controller
from safetensors.torch import load_file
from small_run import Run, copy

from aworld.publish import read_jsonl

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]


def train(cluster: Cluster, run: Run, fault: Fault, trained: Run) -> None:
    """The cold start's training, hit after a few steps: steps and policy are those of the undisturbed training."""
    steps = run.dir.round(0) / "steps.jsonl"
    for path in (run.dir.policy(0), steps, run.dir.round(0) / "metrics.json"):
        cluster.slurm("rm", "-rf", str(path))
    text = run.dir.config.read_text()
    assert "save_seconds: 600.0" in text
    if fault is lose_the_node:  # it has no time to save, so it does after each step until then
        run.dir.config.write_text(text.replace("save_seconds: 600.0", "save_seconds: 0.0"))
    run.launch("train", 0)
    run.wait_for(lambda: len(read_jsonl(steps)) > 2, "the first steps")
    run.dir.config.write_text(text)
    fault(cluster, run, run.job("train-0000"))
    run.wait_for_jobs()
    one, other = (load_file(r.dir.policy(0) / "model.safetensors") for r in (run, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert read_jsonl(steps) == read_jsonl(trained.dir.round(0) / "steps.jsonl")
    if fault is not restart_the_controller:
        first, last = (pick(run.starts("train-0000"), key=lambda start: start["time"]) for pick in (min, max))
        assert last["restart"] >= 1, run.last_words()
        saved = last["progress"]["completed_ns"] > first["progress"]["completed_ns"]
        assert saved, "it went on without a checkpoint of these steps"


@pytest.mark.parametrize("fault", [preempt, requeue, lose_the_node, restart_the_controller])
def test_training_survives(fault: Fault, cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    train(cluster, copy(trained, tmp_path / "run"), fault, trained)


def test_training_survives_preemption_without_the_signal(without_signal: Cluster, trained: Run, tmp_path: Path) -> None:
    train(without_signal, copy(trained, tmp_path / "run"), preempt, trained)
