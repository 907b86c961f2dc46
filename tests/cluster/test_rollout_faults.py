"""A round on a real Slurm, hit by one fault while it is played: it comes back, and leaves what was asked for."""

from pathlib import Path

import pytest
from cluster import Cluster
from faults import (
    Fault,
    lose_sight_of_the_node,
    lose_the_node,
    preempt,
    requeue,
    restart_the_controller,
    warn_of_the_time_limit,
)
from small_run import Run, assert_round_is_whole, copy

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]

FAULTS = [preempt, requeue, lose_the_node, lose_sight_of_the_node, restart_the_controller, warn_of_the_time_limit]


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
