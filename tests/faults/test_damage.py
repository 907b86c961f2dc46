"""Bits that flip and files that are cut, after all was well: detected, named, made anew, never used."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from trial import TASKS, Trial

from aworld import config as configuration
from aworld.launch.plan import discard_damaged, plan
from aworld.publish import is_complete
from aworld.rollout.workload import schedule
from aworld.tasks import make_source
from aworld.trajectories.journal import list_entries

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(600)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[_data(path)] ^= 16
    path.write_bytes(data)


def _data(path: Path) -> int:
    """A byte that matters: of the first tokens in a journal, or in an HDF5 file, which has gaps."""
    if path.suffix == ".journal":
        return list_entries(path).entries[0].body
    if path.suffix != ".h5":
        return path.stat().st_size // 3
    with h5py.File(path) as f:
        return int(f["tokens"].id.get_offset())


@pytest.mark.parametrize("damage", [cut, flip])
def test_what_a_damaged_journal_lost_is_played_again(
    damage: Callable[[Path], None], after: Callable[[str], Trial], undisturbed: Trial
) -> None:
    trial = after("rollout")
    assert len(trial.played()) == TASKS
    damage(trial.journal)
    lost = TASKS - len(trial.played())
    assert lost > 0
    refused = trial.aworld("gather")
    assert refused.returncode == 3
    if damage is cut:  # a list shows it
        assert f"{lost} of {TASKS} tasks are left" in refused.stderr
    else:
        assert f"warning: {trial.journal}: " in refused.stderr and f"hold {TASKS - 1} of its {TASKS}" in refused.stderr
    assert "aworld resume" in refused.stderr
    assert not trial.run.trajectories(0).exists()
    again = trial.aworld("rollout")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("are lost, and played again") == lost
    if damage is flip:
        assert f"warning: {trial.journal}: " in again.stderr and "bytes are damaged" in again.stderr
    assert len(trial.played()) == TASKS
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_trajectories_are_refused_by_training_and_gathered_again(
    damage: Callable[[Path], None], after: Callable[[str], Trial], undisturbed: Trial
) -> None:
    trial = after("gather")
    damage(trial.run.trajectories(0))
    refused = trial.aworld("train")
    assert refused.returncode == 4
    assert f"{trial.run.trajectories(0)}" in refused.stderr and "gather the round again" in refused.stderr
    assert "Traceback" not in refused.stderr
    config = configuration.changed(configuration.read(trial.run.config), ["site.executor=slurm"])
    workloads = schedule(config, trial.run, make_source(config.tasks, trial.run.tasks))
    assert "gather-0000" not in {stage.name for stage in plan(config, trial.run, workloads)}
    discard_damaged(trial.run, workloads)  # as a resume does
    assert "gather-0000" in {stage.name for stage in plan(config, trial.run, workloads)}
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_policy_is_refused_by_a_rollout_and_made_anew_by_training(
    damage: Callable[[Path], None], after: Callable[[str], Trial], undisturbed: Trial
) -> None:
    trial = after("train")
    damage(trial.run.policy(0) / "model.safetensors")
    if damage is flip:  # one that is cut does not even count as there
        words = [*trial.command("rollout")[:-1], "1"]
        refused = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert refused.returncode == 4
        assert f"{trial.run.policy(0)} is damaged (model.safetensors) and not used; remove the folder" in refused.stderr
    assert is_complete(trial.run.policy(0)) is (damage is flip)
    done = trial.aworld("train")
    assert done.returncode == 0, done.stderr
    if damage is flip:
        assert f"{trial.run.policy(0)} is damaged (model.safetensors); made anew" in done.stderr
    trial.assert_trained_like(undisturbed)
    again, before = ((each.run.round(0) / "steps.jsonl").read_text() for each in (trial, undisturbed))
    assert again == before
