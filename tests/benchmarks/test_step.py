"""The comparison of the trainer's step with transformers, on a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "step.py"


@pytest.mark.engine
@pytest.mark.deep
def test_all_train_on_the_same_loss_and_are_compared():
    """The benchmark itself fails where a loss or a gradient norm differs from the trainer's."""
    words = ["--layers", "2", "--hidden", "64", "--vocab", "512", "--rounds", "1", "--json"]
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"transformers", "transformers, no padding"} <= found["ratio"].keys() < found["cpu_seconds"].keys()
    assert all(ratio > 0 for ratio in found["ratio"].values())
