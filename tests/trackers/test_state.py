"""Which rounds and evaluations a tracker still has to write, and in which order."""

import os
from pathlib import Path

import pytest
import tracked_run

from aworld import config as configuration
from aworld.errors import InfrastructureError, InputError
from aworld.locks import try_to_hold
from aworld.trackers import figures, state, tracker
from aworld.trackers.state import Item

pytestmark = pytest.mark.unit


def items(found: state.State) -> list[tuple[str, int]]:
    return [(item.benchmark, item.number) for item in found.items]


def test_what_has_finished_is_listed_once_and_each_later_than_the_one_before(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    for path in (*run.root.glob("rounds/*/metrics.json"), run.evaluation("held-out", 0) / "timing.json"):
        os.utime(path, (1000, 1000))
    found = state.State()
    assert found.add_new(run, run.newest_policy()) and not found.add_new(run, run.newest_policy())
    assert found.items == [Item("", 0, 1000), Item("", 1, 1001), Item("held-out", 0, 1002)]
    (run.evaluation("held-out", 1) / "journals").mkdir(parents=True)  # under way
    run.round(2).mkdir()
    assert not found.add_new(run, run.newest_policy())
    state.save(run, "tensorboard", found)
    assert state.load(run, "tensorboard") == found
    assert state.is_behind(run, "tensorboard", 1) and state.is_behind(run, "mlflow", 1)


def test_an_evaluation_that_ends_late_comes_behind_later_rounds(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    found = state.State(written=3)
    found.add_new(run, run.newest_policy())
    state.save(run, "wandb", found)
    assert not state.is_behind(run, "wandb", 1)
    tracked_run.finish_round(run, 2)
    found.add_new(run, run.newest_policy())
    tracked_run.evaluate(run, 1, 1.0)
    found.add_new(run, run.newest_policy())
    assert items(found) == [("", 0), ("", 1), ("held-out", 0), ("", 2), ("held-out", 1)]
    assert [(item.benchmark, item.number) for item in found.left] == [("", 2), ("held-out", 1)]


def test_a_round_whose_folder_was_removed_is_passed_over(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    (run.round(0) / "metrics.json").unlink()
    found = state.State()
    found.add_new(run, run.newest_policy())
    assert items(found) == [("", 1), ("held-out", 0)]


def test_failures_are_kept_until_the_next_success(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    state.note_failure(run, "wandb", "no route to host")
    (line,) = state.failures(["tensorboard", "wandb"], run)
    assert line == f"tracker wandb is not up to date: no route to host; try again with: aworld track {run.root}"
    state.note_failure(run, "wandb", "")
    assert state.failures(["tensorboard", "wandb"], run) == []
    state.path_of(run, "wandb.failed").write_text("{")
    (line,) = state.failures(["tensorboard", "wandb"], run)
    assert "cannot be read" in line and line.endswith(f"aworld track {run.root}")


def test_a_tracker_that_is_being_written_is_not_begun_anew(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    state.save(run, "wandb", state.State())
    with try_to_hold(state.lock_of(run, "wandb")) as is_ours:
        assert is_ours
        with pytest.raises(InfrastructureError, match="tracker wandb is being written; try again in a minute"):
            state.forget(run, "wandb")
    assert state.path_of(run, "wandb").exists()


def test_no_address_variable_or_path_of_a_teacher_is_shown() -> None:
    teacher = "training.cold_start.teacher"
    words = [f"{teacher}.base_url=https://inside", f"{teacher}.key_variable=KEY", f"{teacher}.extra={{user: me}}"]
    words += [f"{teacher}.model=m", "training.cold_start.conversations=/home/me/talks.jsonl", "training.lr=0.125"]
    shown = figures.settings(configuration.load([*tracked_run.WORDS, *words]))
    assert shown["training.lr"] == 0.125 and "training.cold_start.epochs" in shown
    assert not [name for name in shown if "teacher" in name or "conversations" in name]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["tensorbord"], "trackers: there is no 'tensorbord'; valid: tensorboard, wandb, mlflow"),
        (["wandb", "tensorboard", "wandb"], "trackers: 'wandb' is there twice; leave one of them out"),
    ],
)
def test_wrong_names_are_refused(names: list[str], line: str) -> None:
    with pytest.raises(InputError) as refused:
        tracker.check(names)
    assert str(refused.value) == line


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    try:
        import mlflow  # noqa: F401

        pytest.skip("all packages are here")
    except ImportError:
        pass
    with pytest.raises(InputError, match=r"'mlflow' is not installed; do: pip install 'aworld-slurm\[mlflow\]'"):
        tracker.check(["tensorboard", "mlflow"])
