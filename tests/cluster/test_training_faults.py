"""A training on a real Slurm, hit by faults: it comes back, and makes the policy that it would have made."""

from pathlib import Path

import pytest
import torch
from cluster import Cluster
from faults import Fault, lose_the_node, preempt, requeue, restart_the_controller
from safetensors.torch import load_file
from small_run import Run, copy, hurry

from aworld.publish import read_jsonl
from aworld.training.position import positions

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]


def train(cluster: Cluster, run: Run, faults: list[Fault], trained: Run) -> None:
    """The cold start's training, hit after every few steps: steps and policy are those of the undisturbed training."""
    steps = run.dir.round(0) / "steps.jsonl"
    for path in (run.dir.policy(0), steps, run.dir.round(0) / "metrics.json"):
        cluster.slurm("rm", "-rf", str(path))
    text = run.dir.config.read_text()
    assert "save_seconds: 600.0" in text
    if lose_the_node in faults:  # it has no time to save, so it does after each step until then
        run.dir.config.write_text(text.replace("save_seconds: 600.0", "save_seconds: 0.0"))
    run.launch("train", 0)
    for fault in faults:
        made = len(read_jsonl(steps))

        def goes_on(made: int = made, fault: Fault = fault) -> bool:
            hurry()
            is_saved = fault is not lose_the_node or positions(run.dir.checkpoints)
            return len(read_jsonl(steps)) > made + 2 and bool(is_saved)

        run.wait_for(goes_on, f"steps before {fault.__name__}")
        if fault is lose_the_node:
            run.dir.config.write_text(text)
        fault(cluster, run, run.job("train-0000"))
    run.wait_for_jobs()
    one, other = (load_file(r.dir.policy(0) / "model.safetensors") for r in (run, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert read_jsonl(steps) == read_jsonl(trained.dir.round(0) / "steps.jsonl")
    saved = {start["restart"]: start["progress"]["completed_ns"] for start in run.starts("train-0000") if start["job"]}
    assert max(saved) >= sum(fault is not restart_the_controller for fault in faults), run.last_words()
    times = [saved[restart] for restart in sorted(saved)]
    assert times == sorted(set(times)), "it went on without a checkpoint of these steps"


def test_training_survives_one_fault_after_another(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    train(cluster, run, [restart_the_controller, lose_the_node, preempt, requeue], trained)


def test_training_survives_preemption_without_the_signal(without_signal: Cluster, trained: Run, tmp_path: Path) -> None:
    train(without_signal, copy(trained, tmp_path / "run"), [preempt], trained)
