"""One stage on a real Slurm, hit by one fault while it works: it comes back, and leaves what was asked for."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch
from cluster import Cluster
from killer import DAEMONS
from safetensors.torch import load_file
from slurm_conf import Settings
from small_run import Run, assert_round_is_whole, copy, hurry, prepare

from aworld.rundir import read_jsonl

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]

Fault = Callable[[Cluster, Run, str], None]


def preempt(cluster: Cluster, run: Run, job: str) -> None:
    """A job of the high partition takes every node for some seconds."""
    urgent = cluster.slurm("sbatch", "--parsable", "-phigh", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 3")

    def is_over() -> bool:
        shown = cluster.slurm("scontrol", "show", "job", urgent)
        assert not any(f"JobState={state}" in shown for state in ("FAILED", "CANCELLED", "NODE_FAIL")), shown
        return "JobState=COMPLETED" in shown

    cluster.wait(is_over, seconds=300)


def requeue(cluster: Cluster, run: Run, job: str) -> None:
    cluster.slurm("scontrol", "requeue", job)


def lose_the_node(cluster: Cluster, run: Run, job: str) -> None:
    """The node dies with all that runs there, and comes back."""
    name = node_of(cluster, job)
    cluster.kill_slurmd(name)
    cluster.take_down(name)
    cluster.start_slurmd(name)


def lose_sight_of_the_node(cluster: Cluster, run: Run, job: str) -> None:
    """Only slurmd dies: Slurm starts the work again, and the first copy, which hung meanwhile, goes on."""
    name = node_of(cluster, job)
    os.kill(cluster._pid(name), signal.SIGKILL)
    began = len(run.starts("rollout-0001"))

    def is_copied() -> bool:
        hurry()
        return len(run.starts("rollout-0001")) > began

    with paused(cluster, name):
        cluster.take_down(name)
        run.wait_for(is_copied, "the second copy", every=1)


def restart_the_controller(cluster: Cluster, run: Run, job: str) -> None:
    """It may then take a job that ended meanwhile for lost, and start it again."""
    saved, now = cluster.folder / "state" / "job_state", time.time()
    cluster.slurm("scontrol", "update", f"JobId={job}", "Comment=to be written down")
    with paused(cluster):
        cluster.wait(lambda: saved.stat().st_mtime > now)
        assert "RUNNING" in cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%T").split()
        cluster.kill_slurmctld()
    time.sleep(1)
    cluster.start_slurmctld()


def warn_of_the_time_limit(cluster: Cluster, run: Run, job: str) -> None:
    """As Slurm does so many seconds before it; a resident trainer meets a real one in `test_runs.py`."""
    cluster.slurm("scancel", "--signal=USR2", job)


@contextmanager
def paused(cluster: Cluster, node: str = "") -> Iterator[None]:
    """What jobs have started hangs meanwhile, so that it does not end before the fault has struck."""
    hung = []
    try:
        for process in cluster.processes(node):
            with suppress(psutil.NoSuchProcess):
                if process.name() not in DAEMONS | {"srun"}:  # srun takes SIGCONT for a preemption
                    process.suspend()
                    hung.append(process)
        yield
    finally:
        for process in hung:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def node_of(cluster: Cluster, job: str) -> str:
    """The first node where a job, or one of its elements, runs."""
    nodes = cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--states=RUNNING", "--format=%N")
    return cluster.slurm("scontrol", "show", "hostnames", nodes.split()[0]).split()[0]


FAULTS = [preempt, requeue, lose_the_node, lose_sight_of_the_node, restart_the_controller, warn_of_the_time_limit]


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
    """A round with the real vLLM in its image, hit once an episode is finished; long enough to be hit in the midst."""
    text = run.dir.config.read_text().replace("tasks_per_round: 8", "tasks_per_round: 16")
    run.dir.config.write_text(text.replace("group_size: 4", "group_size: 16"))
    run.launch("rollout", 1)
    run.wait_for(lambda: run.episodes(1) > 0, "the first episode")
    fault(cluster, run, run.job("rollout-0001"))
    run.wait_for_jobs()
    run.launch("gather", 1)
    run.wait_for_jobs()
    assert_round_is_whole(run, 1)


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
        assert last["progress"] - first["progress"] > 3, "it went on without a checkpoint of these steps"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rollout_survives(fault: Fault, cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    play(cluster, run, fault)
    if fault is not restart_the_controller:
        assert run.restarts("rollout-0001") >= 1, run.last_words()
    if fault is lose_sight_of_the_node:  # the copy finds its journal in use, and opens another
        assert list((run.dir.round(1) / "journals").glob("worker-?-*.journal")), "the two copies did not overlap"
        done = run.command("train", "--round", "1")  # what a disturbed round left can be trained on
        assert done.returncode == 0, done.stderr


def test_a_rollout_survives_preemption_without_the_signal(
    without_signal: Cluster, trained: Run, tmp_path: Path
) -> None:
    run = copy(trained, tmp_path / "run")
    play(without_signal, run, preempt)
    assert run.restarts("rollout-0001") >= 1


@pytest.mark.parametrize("fault", [preempt, requeue, lose_the_node, restart_the_controller])
def test_training_survives(fault: Fault, cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    train(cluster, copy(trained, tmp_path / "run"), fault, trained)


def test_training_survives_preemption_without_the_signal(without_signal: Cluster, trained: Run, tmp_path: Path) -> None:
    train(without_signal, copy(trained, tmp_path / "run"), preempt, trained)
