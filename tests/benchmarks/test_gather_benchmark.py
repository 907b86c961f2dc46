"""The benchmark of the gather on this machine: the writer's memory does not grow with the round."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.deep]

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gather.py"
SIZES = ("--episodes", "64", "--tokens", "100000", "--journals", "4", "--repeats", "1")


def test_the_writer_holds_a_piece_whatever_the_round_has() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), *SIZES], capture_output=True, text=True, check=True)
    small, large = map(json.loads, done.stdout.splitlines())
    assert (small["episodes"], large["episodes"]) == (8, 64)
    assert large["file_MB"] == pytest.approx(64 * 0.9, rel=0.01)  # 9 bytes a token
    assert large["writer_peak_MB"][0] - small["writer_peak_MB"][0] < 25  # a piece has 16
    assert large["gather_MB_per_s"] > 0 and large["plain_MB_per_s"] > 0
