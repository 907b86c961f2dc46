"""A checkpoint that is written while training goes on, and a step that is given up: nothing of either shows."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from aworld.trajectories import file
from aworld.trajectories.arrays import Trajectories

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("saves.py")


@pytest.mark.parametrize("pipeline", [2, pytest.param(1, marks=pytest.mark.deep)])
def test_a_save_in_the_background_and_a_step_that_is_given_up(
    pipeline: int,
    checkpoint: Callable[..., Path],
    trajectories: Trajectories,
    torchrun: Callable[..., None],
    tmp_path: Path,
) -> None:
    """On two pipeline stages, and on two replicas."""
    file.write(tmp_path / "trajectories.h5", trajectories)
    torchrun(PROGRAM, 2, str(checkpoint()), str(tmp_path / "trajectories.h5"), str(tmp_path), str(pipeline))
    for rank in range(2):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert found["micro_batches"] > 4 and found["metrics"] == [{"loss": 1.0}]
        assert found["is_exact"] and found["sound"] and found["abandoned"] and found["is_unchanged"]
        assert found["goes_on"] and found["waits_for_the_copy"] and found["opens_megatrons"]
        assert found["share_read"] < 1.4  # opening such small tensors reads as much again: one rank alone reads 2
    folder = tmp_path / "round-0001-step-000001"
    marked = json.loads((folder / "COMPLETE").read_text())["files"]
    assert marked.keys() == {path.name for path in folder.iterdir()} - {"COMPLETE"}
    for name, each in marked.items():
        data = (folder / name).read_bytes()
        assert (len(data), zlib.crc32(data)) == (each["size"], each["crc32"]), name
