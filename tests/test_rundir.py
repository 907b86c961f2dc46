import itertools
import json
import shutil
import time
from pathlib import Path

import pytest

from aworld import rundir
from aworld.locks import try_to_hold
from aworld.publish import publish_folder

pytestmark = pytest.mark.unit


def test_a_run_has_stalled_only_when_nothing_became_durable_for_so_long(tmp_path):
    run = rundir.RunDir(tmp_path)
    path = run.round(1) / "journals" / "worker-0.journal"
    path.parent.mkdir(parents=True)
    timer = rundir.StallTimer(run, 1.0)
    assert not timer.has_stalled()
    time.sleep(1.1)
    path.write_text("an episode")
    assert not timer.has_stalled()  # and begins anew
    assert not timer.has_stalled()
    time.sleep(1.1)
    assert timer.has_stalled()


def test_progress_is_seen_of_every_kind_of_work_whatever_else_lies_in_the_run(tmp_path):
    run = rundir.RunDir(tmp_path)
    seen = [rundir.progress_counters(run)]

    def publish(folder: Path) -> None:
        time.sleep(0.01)  # the clock of a file system ticks every few ms
        publish_folder(folder, lambda where: (where / "a").write_text("weights"))

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("an episode")

    steps = [
        lambda: publish(run.evaluation("mine", 0).parent / "tasks"),  # of a source that generates its tasks
        lambda: write(run.evaluation("mine", 0) / "journals" / "worker-0.journal"),
        lambda: write(run.round(1) / "journals" / "worker-0.journal"),
        lambda: write(run.trajectories(1)),
        lambda: publish(run.checkpoints / "round-0001-step-000004"),
        lambda: [publish(run.checkpoints / "round-0001"), shutil.rmtree(run.checkpoints / "round-0001-step-000004")],
        lambda: publish(run.policy(1)),
        lambda: [
            shutil.rmtree(run.checkpoints / "round-0001"),
            publish(run.checkpoints / "round-0001"),
        ],  # trained again
    ]
    for step in steps:
        step()
        seen.append(rundir.progress_counters(run))
    assert all(one != other for one, other in itertools.pairwise(seen))
    assert seen[-1] == rundir.progress_counters(run) == json.loads(json.dumps(seen[-1]))


def test_a_copy_of_a_policy_beside_the_others_is_no_version(tmp_path):
    run = rundir.RunDir(tmp_path)
    for name in ("0002", "0001", "0001-old", "12000"):
        publish_folder(run.policy(0).parent / name, lambda where: (where / "a").write_text("weights"))
    assert run.policies() == [1, 2, 12000]


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        ("train", True),
        ("rollout-1", True),  # a worker of the whole run
        ("rollout-0001-1", False),  # of a round that is finished
        ("rollout-0002-1", True),
        ("evaluate-0001-0", False),
        ("evaluate-0002-0", True),
        ("evaluate-gaia-0001-2024-0001-0", False),
        ("evaluate-gaia-0001-2024-0002-0", True),
    ],
)
def test_a_run_is_worked_on_while_a_lock_of_unfinished_work_is_held(tmp_path, lock, expected):
    """A finished round has locks as well, thousands in a long run: they are not opened, as nobody works on it."""
    run = rundir.RunDir(tmp_path)
    for folder in (run.round(1), run.evaluation("held-out", 1), run.evaluation("gaia-0001-2024", 1)):
        folder.mkdir(parents=True)
        rundir.note_finished(folder.parent, 1, {"units": 1})
    with try_to_hold(run.lock("rollout-0002-0")):
        pass  # an ended worker's lock stays
    assert not run.is_worked_on()
    with try_to_hold(run.lock(lock)):
        assert run.is_worked_on() == expected
