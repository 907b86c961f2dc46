"""The comparison of whole policies with deltas, on a small one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "hand_over.py"


@pytest.mark.unit
def test_a_delta_is_small_and_the_copy_from_it_is_what_was_published(tmp_path: Path) -> None:
    """The benchmark itself compares the bytes."""
    words = [sys.executable, str(PROGRAM), "--gb", "0.02", "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    share = re.search(r"delta / whole: ([0-9.]+) of the bytes", done.stdout)
    assert share and 0 < float(share[1]) < 0.05
    assert not list(tmp_path.iterdir())
