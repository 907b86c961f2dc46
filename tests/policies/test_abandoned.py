"""Copies of a node in the run directory: who uses them, and when they may go."""

import os
import time
from pathlib import Path

import pytest

from aworld.policies.abandoned import users_of
from aworld.policies.node import on_this_node
from aworld.rundir import RunDir
from aworld.training.retention import prune_copies

pytestmark = pytest.mark.unit
NOWHERE = "/proc/nowhere"  # no folder of this node: the copy lies in the run directory


def age(folder: Path) -> None:
    """Let what was noted be an hour old."""
    hour_ago = time.time() - 3600
    for path in (folder / "users", *(folder / "users").iterdir()):
        os.utime(path, (hour_ago, hour_ago))


@pytest.fixture
def folder(run: RunDir) -> Path:
    """A copy that a process of this node used, and a killed one left."""
    with on_this_node(run, 1, NOWHERE) as copy:
        folder = run.root / "copies" / os.uname().nodename
        kept = copy.with_name("0000-00000000")
    kept.mkdir()
    (kept / "model.safetensors").write_bytes(b"weights")
    kept.with_suffix(".used").touch()
    return folder


def test_a_copy_in_use_stays_and_goes_with_its_last_user(run: RunDir, folder: Path) -> None:
    with on_this_node(run, 1, NOWHERE) as copy:
        age(folder)
        assert users_of(run) == {folder: "a process uses it"}
        prune_copies(run)
        assert copy.is_dir()
    assert users_of(run) == {folder: ""}
    prune_copies(run)
    assert list((run.root / "copies").iterdir()) == []


def test_a_copy_that_may_have_a_user_by_now_stays(run: RunDir, folder: Path) -> None:
    assert users_of(run) == {folder: "it was used just now"}


def test_of_another_node_nobody_here_knows_without_a_job(run: RunDir, folder: Path) -> None:
    age(folder)
    other = folder.rename(folder.with_name("node-that-is-gone"))
    assert users_of(run)[other].startswith("it was used outside a job; remove it by hand")
    prune_copies(run)
    assert list(other.glob("policies/*/0000-*/model.safetensors"))


def test_where_slurm_does_not_answer_copies_of_jobs_stay(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue there
    with on_this_node(run, 1, NOWHERE):
        pass
    folder = run.root / "copies" / os.uname().nodename
    age(folder)
    assert (folder / "users" / "7").exists()
    assert users_of(run) == {folder: "no squeue on PATH; load Slurm's module, or use site=local"}
