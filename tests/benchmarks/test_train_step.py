"""The comparison of the trainer's step with a plain loop of transformers, on a tiny model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "train_step.py"


@pytest.mark.engine
@pytest.mark.deep
def test_all_train_on_the_same_loss_and_are_compared() -> None:
    """The benchmark itself fails where a loss or a gradient norm differs from the trainer's."""
    words = ["--layers", "2", "--hidden", "64", "--vocab", "512", "--repeats", "2", "--batches", "short"]
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    rates = dict(re.findall(r"^  (.+): ([0-9]+) tokens/s", done.stdout, re.MULTILINE))
    assert rates.keys() == {"trainer", "transformers, padded", "transformers, one by one"}
    assert all(int(rate) > 0 for rate in rates.values())
