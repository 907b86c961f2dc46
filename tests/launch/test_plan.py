"""Which stages are left of a run whose folders someone has tidied up."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.launch import dag
from aworld.launch.plan import plan
from aworld.phase import Phase
from aworld.publish import MARK, publish_folder, publish_json
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.stages import REPORT
from aworld.tasks.task import Task
from aworld.watch.status import estimated_end, status

pytestmark = pytest.mark.unit

ROUNDS = 8
TASKS = [Task("a", "question", "answer", 1)]


@pytest.fixture(scope="module")
def config() -> Config:
    words = ["recipe=demo", "site=example", "model=qwen3-32b", "model.path=/project/model"]
    return configuration.load([*words, f"pipeline.rounds={ROUNDS}", "pipeline.mode=batch"])


def rounds(run: RunDir) -> list[Workload]:
    cold = Workload(Phase.COLD_START, "cold start", run.round(0), 0, TASKS, 1, 0.0, range(0))
    rounds = range(1, 9)
    return [
        cold,
        *(Workload(Phase.ROUND, f"round {n}", run.round(n), n, TASKS, 1, 1.0, range(n - 1, n)) for n in rounds),
    ]


def there(*folders: Path) -> None:
    for folder in folders:
        publish_folder(folder, lambda where: (where / "weights").touch())


@pytest.fixture
def finished(tmp_path: Path) -> RunDir:
    """Everything is played and trained, and the newest three checkpoints are there."""
    run = RunDir(tmp_path)
    there(*(run.policy(n) for n in range(ROUNDS + 1)))
    there(*(run.checkpoints / f"round-{n:04d}" for n in (6, 7, 8)))
    for n in range(ROUNDS + 1):
        run.round(n).mkdir(parents=True)
        run.trajectories(n).touch()
        publish_json(run.round(n) / "metrics.json", {})
    return run


def remove(run: RunDir, *, policies: Iterable[int] = (), checkpoints: Iterable[int] = (), played: int = 0) -> None:
    for n in policies:
        shutil.rmtree(run.policy(n))
    for n in checkpoints:
        shutil.rmtree(run.checkpoints / f"round-{n:04d}")
    if played:
        shutil.rmtree(run.round(played))


def stages(config: Config, run: RunDir) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.after for stage in plan(config, run, rounds(run)) if stage.name != "report"}


def test_policies_that_were_removed_to_make_room_are_not_trained_again(config: Config, finished: RunDir) -> None:
    remove(finished, policies=range(ROUNDS))
    assert stages(config, finished) == {}
    assert all(stage.finished for stage in status(config, finished, rounds(finished)))


def test_the_last_policy_is_made_from_its_checkpoint(config: Config, finished: RunDir) -> None:
    remove(finished, policies=[3, ROUNDS])
    assert stages(config, finished) == {"train-0008": ()}


def test_the_last_policy_is_trained_from_the_newest_checkpoint_before_it(config: Config, finished: RunDir) -> None:
    remove(finished, policies=range(1, ROUNDS + 1), checkpoints=[7, 8])
    assert stages(config, finished) == {"train-0007": (), "train-0008": ("train-0007",)}


def test_a_round_that_nothing_needs_any_more_may_be_removed(config: Config, finished: RunDir) -> None:
    remove(finished, policies=[1, 2, 3, 4], played=5)
    assert stages(config, finished) == {}


def test_a_round_to_be_played_again_gets_its_policy_and_what_that_goes_on_from(
    config: Config, finished: RunDir
) -> None:
    remove(finished, policies=range(1, ROUNDS + 1), checkpoints=[6, 7, 8], played=5)
    trainings = {"train-0001": (), **{f"train-000{n}": (f"train-000{n - 1}",) for n in range(2, ROUNDS + 1)}}
    played = {"rollout-0005": ("train-0004",), "gather-0005": ("rollout-0005",)}
    trainings["train-0005"] = ("gather-0005", "train-0004")
    assert stages(config, finished) == trainings | played


def test_training_waits_for_the_trajectories_of_each_round_since_its_checkpoint(
    config: Config, finished: RunDir
) -> None:
    """The policy of round 7 is there, but nothing that round 8 could go on from."""
    remove(finished, policies=[8], checkpoints=[7, 8])
    finished.trajectories(7).unlink()
    found = stages(config, finished)
    assert found["gather-0007"] in [(), ("rollout-0007",)] and "train-0007" not in found
    assert found["train-0008"] == ("gather-0007",)


def test_so_it_does_where_a_round_long_trained_is_trained_again(config: Config, finished: RunDir) -> None:
    """Round 6 is to be played again by policy 5, which goes on from checkpoint 2; the trajectories of 4 are gone."""
    there(finished.checkpoints / "round-0002")
    remove(finished, policies=[5, 7, 8], checkpoints=[6, 7, 8], played=6)
    finished.trajectories(4).unlink()
    found = stages(config, finished)
    assert found["train-0005"] == ("gather-0004",) and "train-0004" not in found


def test_a_new_run_trains_every_round(config: Config, tmp_path: Path) -> None:
    whole = configuration.changed(config, [f"pipeline.submit_ahead={ROUNDS + 1}"])
    trainings = [name for name in stages(whole, RunDir(tmp_path)) if name.startswith("train")]
    assert trainings == [f"train-{n:04d}" for n in range(ROUNDS + 1)]


def rounds_of(config: Config, run: RunDir, kind: str) -> str:
    """The numbers of the stages of this kind that a launch submits now."""
    names = [stage.name.rpartition("-") for stage in plan(config, run, rounds(run))]
    return " ".join(str(int(number)) for name, _, number in names if name == kind)


def test_the_rounds_ahead_are_submitted_and_the_last_job_of_each_submits_a_later_one(
    config: Config, tmp_path: Path
) -> None:
    run, few = RunDir(tmp_path), configuration.changed(config, ["pipeline.submit_ahead=3"])
    assert rounds_of(few, run, "train") == rounds_of(few, run, "submit") == "0 1 2"
    assert stages(few, run)["submit-0001"] == ("train-0001",)
    there(run.policy(0), run.policy(1), run.checkpoints / "round-0001")
    run.trajectories(2).parent.mkdir(parents=True)
    run.trajectories(2).touch()
    assert rounds_of(few, run, "train") == rounds_of(few, run, "submit") == "2 3 4"
    assert rounds_of(few, run, "gather") == "3 4"
    assert not any(stage.kind == REPORT for stage in plan(few, run, rounds(run)))
    there(*(run.policy(n) for n in range(2, 6)), run.checkpoints / "round-0005")
    assert rounds_of(few, run, "train") == "6 7 8" and rounds_of(few, run, "submit") == ""
    assert plan(few, run, rounds(run))[-1].kind == REPORT


def test_where_jobs_may_not_submit_a_person_does(config: Config, tmp_path: Path) -> None:
    alone = configuration.changed(config, ["pipeline.submit_ahead=3", "site.jobs_may_submit=false"])
    run = RunDir(tmp_path)
    assert rounds_of(alone, run, "train") == "0 1 2" and rounds_of(alone, run, "submit") == ""
    line = f"rounds 0 to 2 of {ROUNDS} are submitted; later ones: aworld resume {tmp_path}"
    assert said(alone, run) == line
    assert said(configuration.changed(alone, ["site.jobs_may_submit=true"]), run).endswith("submits a later one")
    assert said(configuration.changed(alone, ["pipeline.submit_ahead=9"]), run) == ""


def said(config: Config, run: RunDir) -> str:
    return dag.ahead(config, run, plan(config, run, rounds(run)))


def test_a_policy_that_a_late_evaluation_needs_is_made_anew_beside_the_rounds_ahead(
    config: Config, finished: RunDir
) -> None:
    remove(finished, policies=[2, 7, 8], checkpoints=[7, 8])
    evaluation = Workload(
        Phase.EVALUATION, "held-out-2", finished.evaluation("held-out", 2), 2, TASKS, 1, 1.0, range(2, 3)
    )
    few = configuration.changed(config, ["pipeline.submit_ahead=1"])
    found = {stage.name: stage.after for stage in plan(few, finished, [*rounds(finished), evaluation])}
    assert found == {
        "train-0002": (),
        "train-0007": (),
        "submit-0007": ("train-0007",),
        "evaluate-0002": ("train-0002",),
    }


def test_the_pace_of_a_run_is_that_of_the_policies_that_are_left(config: Config, finished: RunDir) -> None:
    for version in range(ROUNDS + 1):
        os.utime(finished.policy(version) / MARK, (100.0 * version, 100.0 * version))
    assert estimated_end(config, finished) is None
    remove(finished, policies=[1, 2, 3, 7, 8])
    assert estimated_end(config, finished) == 800.0


def test_training_goes_on_from_the_newest_checkpoint_also_where_policies_are_gone(
    config: Config, finished: RunDir
) -> None:
    for n in range(1, ROUNDS + 1):
        shutil.rmtree(finished.policy(n))
    few = configuration.changed(config, ["pipeline.submit_ahead=1"])
    assert [stage.name for stage in plan(few, finished, rounds(finished))] == [f"train-{ROUNDS:04d}", REPORT.name]
