"""What a command touches does not grow with the rounds behind it, as strace counts it."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import strace
from long_run import PARTS, make, play_parts, touches

pytestmark = pytest.mark.unit


@strace.needed
def test_commands_touch_as_many_files_after_fifty_rounds_as_after_five(tmp_path: Path) -> None:
    found: list[Counter[str]] = []
    for behind in (5, 50):
        run = make(tmp_path / str(behind), behind, workers=2, episodes=16)
        play_parts(run, ["status"])  # notes what the finished rounds came to
        found.append(touches(run, [part for part in PARTS if part != "close"]))  # which starts MPI
    few, many = found
    assert few == many and all(few.values())
