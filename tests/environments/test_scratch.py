"""Scratch folders: what code inside may have planted there harms nobody."""

from pathlib import Path

import pytest

from aworld.environments.scratch import empty, move, stage
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.unit


def test_nothing_is_staged_through_a_link(tmp_path: Path) -> None:
    precious, scratch, attachment = tmp_path / "precious", tmp_path / "scratch", tmp_path / "data.csv"
    precious.write_text("mine")
    attachment.write_text("theirs")
    scratch.mkdir()
    (scratch / "data.csv").symlink_to(precious)
    with pytest.raises(InfrastructureError, match=r"data\.csv could not be put into the scratch: .*File exists"):
        stage((attachment,), scratch)
    assert precious.read_text() == "mine"


def test_a_folder_that_its_code_locked_is_emptied_and_moved_all_the_same(tmp_path: Path) -> None:
    """Root is never locked out: run as another user for this to mean anything."""
    scratch, left = tmp_path / "scratch", tmp_path / "left"
    for folder in (scratch, left):
        folder.mkdir()
    (scratch / "made.txt").write_text("42")
    scratch.chmod(0)
    move(scratch, left)
    assert [path.name for path in left.iterdir()] == ["made.txt"]
    left.chmod(0)
    assert empty(left)
