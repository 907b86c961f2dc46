"""One stage on a real Slurm, hit by one fault while it works: it comes back, and leaves what was asked for."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cluster import Cluster
from safetensors.torch import load_file
from slurm_conf import Settings
from small_run import Run, assert_round_is_whole, copy, prepare

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Fault = Callable[[Cluster, str], None]


def preempt(cluster: Cluster, job: str) -> None:
    """A job of the high partition takes every node for some seconds."""
    urgent = cluster.slurm("sbatch", "--parsable", "-phigh", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 3")
    while "COMPLETED" not in cluster.slurm("scontrol", "show", "job", urgent):
        time.sleep(0.5)


def requeue(cluster: Cluster, job: str) -> None:
    cluster.slurm("scontrol", "requeue", job)


def lose_the_node(cluster: Cluster, job: str) -> None:
    """The node dies with all that runs there, and comes back."""
    node = cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%N").split()[0]
    name = cluster.slurm("scontrol", "show", "hostnames", node).split()[0]
    cluster.kill_slurmd(name)
    while not cluster.node_states()[name].startswith("down"):
        time.sleep(0.5)
    cluster.start_slurmd(name)


def lose_sight_of_the_node(cluster: Cluster, job: str) -> None:
    """Only slurmd dies: Slurm starts the work elsewhere while the first copy goes on."""
    node = cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%N").split()[0]
    name = cluster.slurm("scontrol", "show", "hostnames", node).split()[0]
    os.kill(cluster._pid(name), signal.SIGKILL)
    while not cluster.node_states()[name].startswith("down"):
        time.sleep(0.5)
    cluster.start_slurmd(name)


def restart_the_controller(cluster: Cluster, job: str) -> None:
    """It may then take a job that ended meanwhile for lost, and start it again."""
    time.sleep(6)  # it writes its state within five seconds
    cluster.kill_slurmctld()
    time.sleep(1)
    cluster.start_slurmctld()


FAULTS = [preempt, requeue, lose_the_node, lose_sight_of_the_node, restart_the_controller]


@pytest.fixture(scope="module")
def deaf_cluster(make_cluster: Callable[[Settings], Cluster]) -> Cluster:
    """Preempted jobs hear of it by SIGTERM alone; no accounting."""
    return make_cluster(Settings(user_signal=False, accounting=False, grace=5))


@pytest.fixture
def without_signal(deaf_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in deaf_cluster.env.items():
        monkeypatch.setenv(name, value)
    return deaf_cluster


@pytest.fixture(scope="module")
def trained(environment_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose round 0 is played, gathered and trained, undisturbed."""
    images = [f"site.images.{name}={environment_image}" for name in ("environment", "vllm", "megatron")]
    run = prepare(tmp_path_factory.mktemp("runs"), "name=base", *images)
    for words in (("rollout", "--round", "0"), ("gather", "--round", "0"), ("train", "--round", "0")):
        done = run.command(*words)
        assert done.returncode == 0, done.stderr
    return run


def play(cluster: Cluster, run: Run, fault: Fault) -> None:
    """A round with the real vLLM in its image, hit once an episode is finished; or soon, where Slurm is slow to see."""
    run.launch("rollout", 1)
    began = run.dir.starts / "rollout-0001-0.jsonl"
    run.wait_for(began.exists if fault is lose_sight_of_the_node else lambda: run.episodes(1) > 0, "the first episode")
    fault(cluster, run.job("rollout-0001"))
    run.wait_for_jobs()
    run.launch("gather", 1)
    run.wait_for_jobs()
    assert_round_is_whole(run, 1)


def train(cluster: Cluster, run: Run, fault: Fault, trained: Run) -> None:
    """The cold start's training, hit after a few steps: the policy is that of the undisturbed training."""
    steps = run.dir.round(0) / "steps.jsonl"
    for path in (run.dir.policy(0), steps, run.dir.round(0) / "metrics.json"):
        cluster.slurm("rm", "-rf", str(path))
    run.launch("train", 0)
    run.wait_for(lambda: steps.exists() and steps.read_text().count("\n") > 2, "the first steps")
    fault(cluster, run.job("train-0000"))
    run.wait_for_jobs()
    one, other = (load_file(r.dir.policy(0) / "model.safetensors") for r in (run, trained))
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert steps.read_text().count("\n") == (trained.dir.round(0) / "steps.jsonl").read_text().count("\n")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rollout_survives(fault: Fault, cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    if fault is lose_sight_of_the_node:  # longer than Slurm needs to miss it
        text = run.dir.config.read_text().replace("tasks_per_round: 8", "tasks_per_round: 16")
        run.dir.config.write_text(text.replace("group_size: 4", "group_size: 32"))
    play(cluster, run, fault)
    assert fault is restart_the_controller or run.restarts("rollout-0001") == 1, run.last_words()


def test_a_rollout_survives_preemption_without_the_signal(
    without_signal: Cluster, trained: Run, tmp_path: Path
) -> None:
    run = copy(trained, tmp_path / "run")
    play(without_signal, run, preempt)
    assert run.restarts("rollout-0001") == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault is not lose_sight_of_the_node])
def test_training_survives(fault: Fault, cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    train(cluster, run, fault, trained)
    assert fault is restart_the_controller or run.restarts("train-0000") == 1, run.last_words()


def test_training_survives_preemption_without_the_signal(without_signal: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    train(without_signal, run, preempt, trained)
    assert run.restarts("train-0000") == 1
