"""The jobs of a few rounds, or policies, are in the queue at a time, and the last of each submit later ones."""

import time
from pathlib import Path

import pytest
from cluster import Cluster
from rich.console import Console
from small_run import Run, alive, configured, fill

from aworld import config as configuration
from aworld.launch import dag, evaluations
from aworld.launch.plan import plan
from aworld.publish import MARK, publish_folder, publish_text
from aworld.rollout.claims import Claims, Unit
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal
from aworld.watch.queue import submissions

pytestmark = pytest.mark.cluster


def test_an_evaluation_waits_in_the_queue_until_a_resident_trainer_publishes_its_policy(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Its one task is played already, so that it needs no vLLM to end."""
    words = ["pipeline.evaluations=[synthetic tasks.seed=7 tasks.train=0 tasks.held_out=1 evaluation.attempts=1]"]
    words += ["pipeline.mode=resident", "site.sandbox=subprocess"]
    config = configuration.changed(configured(tmp_path).config, words)
    run = Run(RunDir.of(config))
    publish_text(run.dir.config, configuration.to_yaml(config))
    evaluations.begin(config, run.dir, lambda _: {})
    publish_folder(run.dir.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    workloads = evaluations.workloads(config, run.dir)
    (task,) = workloads[-1].tasks
    folder = run.dir.evaluation("synthetic", 1)
    with Journal(folder / "journals" / "worker-9.journal") as log:
        log.append(Episode(1, task.task_id, 0, 1, "?", [], [], [], [], "x", 1.0, "answered", {}, 1, 0))
    Claims(folder / "claims", "worker-9", 60.0).mark_done(Unit(task.task_id, (0,)))
    stages = [stage for stage in plan(config, run.dir, workloads) if stage.number == 1]
    assert [(stage.name, stage.after) for stage in stages] == [
        ("await-0001", ()),
        ("evaluate-synthetic-0001", ("await-0001",)),
    ]
    dag.submit(config, run.dir, stages)
    run.wait_for(lambda: bool(run.starts("await-0001")), "the job that waits")
    time.sleep(3)
    assert set(alive(run.dir)) == {"await-0001", "evaluate-synthetic-0001"} and not run.starts("evaluate")
    publish_folder(run.dir.policy(1), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    run.wait_for((folder / "timing.json").exists, "the evaluation", every=1)
    assert run.starts("evaluate-synthetic-0001")[0]["time"] > (run.dir.policy(1) / MARK).stat().st_mtime
    run.wait_for_jobs()


def test_a_round_that_ends_submits_the_next_one_and_nothing_twice(cluster: Cluster, tmp_path: Path) -> None:
    """Both rounds are gathered, and the first policy appears before its training begins, so that nothing is trained."""
    words = ["pipeline.rounds=2", "pipeline.submit_ahead=1", "pipeline.evaluations=[]", "training.cold_start.tasks=0"]
    config = configuration.changed(configured(tmp_path).config, words)
    run = Run(RunDir.of(config))
    publish_text(run.dir.config, configuration.to_yaml(config))

    def publish(*folders: Path) -> None:
        for folder in folders:
            publish_folder(folder, lambda where: (where / "model.safetensors").write_bytes(b""))

    publish(run.dir.policy(0))
    for number in (1, 2):
        publish_text(run.dir.trajectories(number), "")
    fill(cluster)
    for _ in range(2):
        dag.go_on(config, run.dir, run.workloads(), Console(quiet=True))
    assert [each.stage for each in submissions(run.dir)] == ["train-0001", "submit-0001"]
    seen = run.command("status")
    assert (
        seen.returncode == 10 and "rounds 1 to 1 of 2 are submitted; a round that ends submits a later" in seen.stdout
    )
    publish(run.dir.policy(1), run.dir.checkpoints / "round-0001")
    cluster.slurm("scancel", "--partition=high")
    run.wait_for(lambda: any(each.stage == "report" for each in submissions(run.dir)), "the next round", every=1)
    run.command("cancel")
    assert [each.stage for each in submissions(run.dir)] == ["train-0001", "submit-0001", "train-0002", "report"]
    assert len(run.starts("train-0001")) == 2  # its ranks began, and found the policy


def test_a_job_submits_later_rounds_and_leaves_the_rest_to_a_person(cluster: Cluster, tmp_path: Path) -> None:
    """The evaluation of policy 0 was never played: it may have failed, or a person may have cancelled it."""
    words = ["pipeline.rounds=2", "pipeline.submit_ahead=1", "training.cold_start.tasks=0"]
    config = configuration.changed(configured(tmp_path).config, words)
    run = Run(RunDir.of(config))
    publish_text(run.dir.config, configuration.to_yaml(config))
    publish_folder(run.dir.policy(0), lambda where: (where / "model.safetensors").write_bytes(b""))
    publish_text(run.dir.trajectories(1), "")
    fill(cluster)
    dag.go_on(config, run.dir, run.workloads(), Console(quiet=True), ended=0)
    assert [each.stage for each in submissions(run.dir)] == ["train-0001", "submit-0001"]
    dag.go_on(config, run.dir, run.workloads(), Console(quiet=True))
    assert {each.stage for each in submissions(run.dir)} == {"evaluate-0000", "train-0001", "submit-0001"}
    run.command("cancel")


def test_a_policy_that_is_there_submits_the_evaluations_of_a_later_one_beside_a_resident_trainer(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = ["pipeline.evaluations=[synthetic tasks.seed=7 tasks.train=0 tasks.held_out=1]", "pipeline.rounds=2"]
    words += [
        "pipeline.mode=resident",
        "pipeline.submit_ahead=1",
        "pipeline.evaluate_every=1",
        "site.sandbox=subprocess",
    ]
    config = configuration.changed(configured(tmp_path).config, words)
    run = Run(RunDir.of(config))
    publish_text(run.dir.config, configuration.to_yaml(config))
    evaluations.begin(config, run.dir, lambda _: {})

    def publish(version: int) -> None:
        publish_folder(run.dir.policy(version), lambda where: (where / "model.safetensors").write_bytes(b""))

    publish(0)
    fill(cluster)  # so that nothing begins
    workloads = [*run.workloads(), *evaluations.workloads(config, run.dir)]
    dag.go_on(config, run.dir, workloads, Console(quiet=True))
    begun = ["rollout", "train", "await-0001", "submit-0001", "evaluate-synthetic-0000", "evaluate-synthetic-0001"]
    assert [each.stage for each in submissions(run.dir)] == begun
    seen = " ".join(run.command("status").stdout.split())  # in lines of the terminal's width
    assert "evaluations of policies 1 to 1 of 2 are submitted; a policy that is made submits later ones" in seen
    publish(1)
    for _ in range(2):
        assert run.command("submit", "--round", "1").returncode == 0
    later = ["await-0002", "evaluate-synthetic-0002", "report"]
    assert [each.stage for each in submissions(run.dir)] == begun + later
    run.command("cancel")
