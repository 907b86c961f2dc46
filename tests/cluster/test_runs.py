"""Whole runs as real Slurm jobs in containers: both modes, one after the other, and under a random killer."""

import json
from pathlib import Path

import pytest
from cluster import Cluster
from killer import Killer
from rich.console import Console
from small_run import (
    Run,
    assert_trained_as_if_undisturbed,
    assert_whole,
    aworld,
    copy,
    hurry,
    prepare,
    python,
    submit,
)

from aworld.launch.start import start
from aworld.publish import is_complete
from aworld.watch.overview import UNDER_WAY, show_status
from aworld.watch.queue import submissions

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def images(environment_image: Path) -> list[str]:
    return [f"site.images.{name}={environment_image}" for name in ("environment", "vllm", "megatron")]


def end_of(run: Run, seconds: float = 1800) -> None:
    run.wait_for_jobs(seconds)
    done = run.command("status")
    assert done.returncode == 0, done.stdout + run.last_words()


def test_a_batch_run_in_arrays_that_are_split(cluster: Cluster, images: list[str], tmp_path: Path) -> None:
    """Three elements of two workers each where the site allows two elements; evaluation arrays hang off policies."""
    wide = "site.rollout.elements=3 site.rollout.tasks_per_node=2 site.array_limit=2 site.array_parallel=2".split()
    wide += ["site.evaluate.elements=2", "environment.slots=1"]
    run = submit(tmp_path, "wide", "pipeline.rounds=1", *images, *wide)
    again = run.command("resume")  # at once: everything is there already
    assert again.returncode == 0 and "there already" in again.stdout
    stages = [submission.stage for submission in submissions(run.dir)]
    assert sorted(set(stages)) == [
        *("evaluate-0000", "evaluate-0001", "gather-0000", "gather-0001", "report"),
        *("rollout-0000", "rollout-0001", "train-0000", "train-0001"),
    ]
    assert stages.count("rollout-0001") == 2 and len(stages) == 11
    assert run.command("status").returncode == 10
    cluster.slurm("scontrol", "uhold", run.job("report"))  # as Slurm itself does with a job that it could not launch
    held = run.command("status")
    assert held.returncode == 10  # others are at work
    assert f"Slurm holds job {run.job('report')} (report): JobHeldUser" in held.stdout
    assert run.command("resume").returncode == 0
    assert run.command("status").returncode == 10
    end_of(run)
    assert_whole(run)
    workers = {path.stem.rpartition("-")[2] for path in run.dir.starts.glob("rollout-0001-*.jsonl")}
    assert workers == {"0", "1", "2", "3", "4", "5"}
    assert json.loads((run.dir.root / "report.json").read_text())["evaluation"]["after"]["n_tasks"] == 6
    assert "rollout-0001" in run.command("logs").stdout
    assert "nothing has to stay open" in run.command("resume").stdout  # only the report is made anew
    run.wait_for_jobs()


@pytest.mark.deep
def test_resident_then_batch_then_resident(cluster: Cluster, images: list[str], tmp_path: Path) -> None:
    """The allocation is lost twice, and the run goes on in the other mode; the trainer meets its time limit as well."""
    resident = ["pipeline.mode=resident", "site.train.minutes=2"]
    run = prepare(tmp_path, "pipeline.rounds=2", "pipeline.max_lag=1", *images)
    run.command("resume", *resident)

    def has_met_its_limit() -> bool:
        hurry()
        return run.restarts("train-0") > 0

    run.wait_for(lambda: run.episodes(1) > 0, "an episode of round 1", 1200)
    cluster.slurm("scontrol", "suspend", run.job("rollout"))  # a fast run would be over before
    run.wait_for(has_met_its_limit, "the trainer's time limit", every=1)
    cluster.slurm("scontrol", "resume", run.job("rollout"))
    lost = run.command("cancel")
    assert lost.returncode == 0 and "cancelled" in lost.stdout
    assert run.command("status").returncode == 11
    run.command("resume", "pipeline.mode=batch", "site.rollout.elements=1")
    run.wait_for(lambda: is_complete(run.dir.policy(1)), "policy 1", 1200)
    run.command("cancel")
    run.command("resume", *resident, "site.rollout.elements=2")
    end_of(run)
    assert_whole(run)  # with max_lag=1 also that policies r - 2 and r - 1 alone played round r
    assert_trained_as_if_undisturbed(run, 2, tmp_path)


@pytest.mark.deep
def test_a_run_under_a_random_killer(cluster: Cluster, images: list[str], tmp_path: Path) -> None:
    killer = Killer(cluster, seed=1)
    run = prepare(tmp_path, "pipeline.rounds=2", "pipeline.max_restarts=20", *images)
    run.command("resume")
    killer.run_to_the_end(run, every=6, kills=12, seconds=3000)
    assert killer.kills.total() >= 6  # a fast machine is done before they all struck
    assert_whole(run)
    assert_trained_as_if_undisturbed(run, 2, tmp_path)


@pytest.mark.deep
def test_a_job_that_gets_nowhere_stops_with_its_reason(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    """vLLM is given an image that does not hold it: each start fails in the same way, and the cap holds."""
    run = copy(trained, tmp_path / "run")
    run.change("pipeline.rounds=1", "pipeline.max_restarts=2", "pipeline.evaluations=[]")
    run.change("site.rollout.elements=1", "site.bind_python=false")
    run.command("resume")

    def is_stopped() -> bool:
        hurry()
        return run.command("status").returncode == 11

    run.wait_for(is_stopped, "the end of the attempts", 900, every=8)
    logs = [log.read_text() for log in run.dir.logs.glob("*_log.out")]
    assert any("began 3 times while the run did not get on" in log for log in logs), run.last_words()


@pytest.mark.deep
def test_a_run_is_under_way_before_its_jobs_are_in_the_accounts(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    """sacct learns of a job a second or two after sbatch."""
    run = copy(trained, tmp_path / "run")
    run.change("pipeline.rounds=1", f"runs={tmp_path}", "name=run")
    start(run.config, Console(quiet=True))
    assert show_status(run.config, run.dir, Console(quiet=True)) == UNDER_WAY


@pytest.mark.deep
def test_a_dry_run_asks_slurm_and_the_doctor_looks(cluster: Cluster, images: list[str], tmp_path: Path) -> None:
    dry = ["recipe=demo", "site=test-cluster", f"runs={tmp_path}", "name=dry", "--dry-run"]
    done = python("jobs/pipeline.py", *dry, *images)
    assert done.returncode == 0, done.stderr
    for stage in ("rollout", "gather", "train", "evaluate"):
        assert f"{stage}: Job" in done.stdout  # what `sbatch --test-only` says
    seen = aworld("doctor", "site=test-cluster", *images)
    assert seen.returncode == 0, seen.stdout
    assert "makes one world of two nodes" in seen.stdout
    wrong = aworld("doctor", "site=test-cluster", *images, "site.mpi=none", "site.train.partition=gpus")
    assert wrong.returncode == 4
    assert "two worlds of one process each → set site.mpi" in wrong.stdout
    assert "there is no 'gpus' → set site.train.partition to one of: " in wrong.stdout
