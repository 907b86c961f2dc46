"""A round on a real Slurm, hit by one fault while it is played: it comes back, and leaves what was asked for."""

from pathlib import Path

import pytest
from cluster import Cluster
from faults import (
    lose_sight_of_the_node,
    lose_the_node,
    node_of,
    preempt,
    requeue,
    restart_the_controller,
    warn_of_the_time_limit,
)
from small_run import Run, assert_round_is_whole, copy, hurry

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(1800)]


def begin(run: Run, group_size: int) -> int:
    """Submit round 1 for one worker, with the real vLLM in its image, and wait for an episode; returns how many there
    will be."""
    run.change("rollout.tasks_per_round=16", f"rollout.group_size={group_size}", "site.rollout.elements=1")
    run.launch("rollout", 1)
    run.wait_for(lambda: run.episodes(1) > 0, "the first episode")
    return 16 * group_size


def end(run: Run) -> None:
    run.wait_for_jobs()
    run.launch("gather", 1)
    run.wait_for_jobs()
    assert_round_is_whole(run, 1)


def test_a_rollout_survives_one_fault_after_another(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    """The last one befalls one of two workers. Each comes once something was played since the one before."""
    run = copy(trained, tmp_path / "run")
    wanted = begin(run, group_size=12)
    job = run.job("rollout-0001")
    restart_the_controller(cluster, run, job)
    for restarts, fault in enumerate([requeue, preempt, warn_of_the_time_limit, lose_the_node], 1):
        played = run.episodes(1)
        assert played < wanted, f"the round was over before {fault.__name__}"
        if fault is lose_the_node:
            elsewhere = f"site.sbatch={{exclude: {node_of(cluster, job)}}}"
            run.launch("rollout", 1, "site.rollout.elements=2", elsewhere)
            run.wait_for(lambda: len(list(run.dir.starts.glob("rollout-0001-*.jsonl"))) == 2, "the other worker")
        fault(cluster, run, job)

        def goes_on(restarts: int = restarts, played: int = played) -> bool:
            hurry()
            return run.restarts("rollout-0001") >= restarts and run.episodes(1) > played

        run.wait_for(goes_on, f"an episode after {fault.__name__}", every=0.5)
    end(run)


def test_a_rollout_survives_two_copies_of_a_worker(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    begin(run, group_size=8)
    lose_sight_of_the_node(cluster, run, run.job("rollout-0001"))
    end(run)
    assert run.restarts("rollout-0001") >= 1, run.last_words()
    # the copy finds its journal in use, and opens another
    assert list((run.dir.round(1) / "journals").glob("worker-?-*.journal")), "the two copies did not overlap"
    done = run.command("train", "--round", "1")  # what a disturbed round left can be trained on
    assert done.returncode == 0, done.stderr


def test_a_rollout_survives_preemption_without_the_signal(
    without_signal: Cluster, trained: Run, tmp_path: Path
) -> None:
    run = copy(trained, tmp_path / "run")
    begin(run, group_size=8)
    preempt(without_signal, run, run.job("rollout-0001"))
    end(run)
    assert run.restarts("rollout-0001") >= 1
