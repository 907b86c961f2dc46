"""Which checkpoints a save removes."""

import os
import time
from pathlib import Path

import pytest

from aworld.publish import IDLE_SECONDS, MARK, publish_folder
from aworld.training.position import Position, positions, prune

pytestmark = pytest.mark.unit


def save(folder: Path, *written: Position) -> None:
    for position in written:
        publish_folder(folder / position.name, lambda where: (where / "shard").write_text("weights"))
        prune(folder, position)


def test_the_last_few_checkpoints_stay(tmp_path: Path) -> None:
    save(tmp_path, Position(1), Position(2, 7), Position(2, 9), Position(2), Position(3))
    assert positions(tmp_path) == [Position(2, 9), Position(2), Position(3)]


def test_what_was_just_written_stays_where_an_earlier_round_is_trained_again(tmp_path: Path) -> None:
    """So the round after it can go on, and so can the run from its end."""
    end = [Position(number) for number in (22, 23, 24)]
    save(tmp_path, *end)
    for number in range(1, 6):
        save(tmp_path, Position(number, 3), Position(number))
        assert positions(tmp_path)[-4:] == [Position(number), *end]
    assert positions(tmp_path) == [Position(4), Position(5, 3), Position(5), *end]
    save(tmp_path, Position(25))
    assert positions(tmp_path) == [Position(23), Position(24), Position(25)]


def test_a_removal_that_was_cut_short_is_ended_once_nobody_writes_there(tmp_path: Path) -> None:
    save(tmp_path, Position(1))
    (tmp_path / Position(1).name / MARK).unlink()
    save(tmp_path, Position(2))
    assert (tmp_path / Position(1).name).exists()  # another may be about to mark it
    long_ago = time.time() - 2 * IDLE_SECONDS
    for path in (tmp_path / Position(1).name / "shard", tmp_path / Position(1).name):
        os.utime(path, (long_ago, long_ago))
    save(tmp_path, Position(3))
    assert not (tmp_path / Position(1).name).exists()
