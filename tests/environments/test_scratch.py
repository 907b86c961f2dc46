"""Scratch folders: what code inside may have planted there harms nobody."""

from pathlib import Path

import pytest

from aworld.environments.scratch import stage
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
