"""A folder of journals that grows: what is read in steps is what is read at once."""

from pathlib import Path

import pytest

from aworld.trajectories import journal
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal
from aworld.watch.heads import Heads

pytestmark = pytest.mark.unit


def append(path: Path, number: int, status: str = "answered") -> None:
    with Journal(path) as log:
        log.append(Episode(1, f"t{number}", 0, 1, "?", [1], [1], [-0.5], [], "x", 1.0, status, {}, 0, 0))  # type: ignore[arg-type]


def test_steps_find_what_one_reading_finds(tmp_path: Path) -> None:
    heads, one, other = Heads(tmp_path), tmp_path / "worker-0.journal", tmp_path / "worker-1.journal"
    assert heads.read() == [] and heads.silent("worker-0") is None
    for number in range(3):
        append(one, number)
        assert heads.read() == journal.records(tmp_path)
    append(other, 2, "infra_error")  # the finished one of the other worker counts
    append(other, 7)
    assert heads.read() == journal.records(tmp_path) and len(heads.read()) == 4
    assert heads.episodes == {"worker-0": 3, "worker-1": 2} and (heads.silent("worker-1") or 9) < 60


def test_a_torn_tail_counts_once_it_is_whole_and_a_cut_one_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.journal"
    append(path, 0)
    size = path.stat().st_size
    append(path, 1)
    whole, heads = path.read_bytes(), Heads(tmp_path)
    path.write_bytes(whole[: size + 40])
    assert len(heads.read()) == 1
    path.write_bytes(whole)
    assert len(heads.read()) == 2
    path.write_bytes(whole[:size])
    assert heads.read() == journal.records(tmp_path) and len(heads.read()) == 1


def test_a_journal_that_did_not_grow_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.journal"
    append(path, 0)
    heads = Heads(tmp_path)
    before = heads.read()
    path.write_bytes(b"\0" * path.stat().st_size)  # would be no journal
    assert heads.read() == before
