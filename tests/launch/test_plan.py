"""Which stages are left of a run whose folders someone has tidied up."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.launch.plan import plan
from aworld.phase import Phase
from aworld.publish import MARK, publish_folder, publish_json
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
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


def test_a_round_to_be_played_again_gets_its_policy_and_what_that_goes_on_from(
    config: Config, finished: RunDir
) -> None:
    remove(finished, policies=[1, 2, 3, 4], played=5)
    trainings = {"train-0001": (), **{f"train-000{n}": (f"train-000{n - 1}",) for n in (2, 3, 4)}}
    played = {"rollout-0005": ("train-0004",), "gather-0005": ("rollout-0005",)}
    assert stages(config, finished) == trainings | played


def test_a_new_run_trains_every_round(config: Config, tmp_path: Path) -> None:
    trainings = [name for name in stages(config, RunDir(tmp_path)) if name.startswith("train")]
    assert trainings == [f"train-{n:04d}" for n in range(ROUNDS + 1)]


def test_the_pace_of_a_run_is_that_of_the_policies_that_are_left(config: Config, finished: RunDir) -> None:
    for version in range(ROUNDS + 1):
        os.utime(finished.policy(version) / MARK, (100.0 * version, 100.0 * version))
    assert estimated_end(config, finished) is None
    remove(finished, policies=[1, 2, 3, 7, 8])
    assert estimated_end(config, finished) == 800.0
