"""The comparison of the trainer's step with a plain loop of transformers, on a tiny model, and who is left out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from contenders import Made, stepping, timed

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "train_step.py"


@pytest.mark.engine
@pytest.mark.deep
def test_all_train_on_the_same_loss_and_are_compared() -> None:
    """The benchmark itself fails where a loss or a gradient norm differs from the trainer's."""
    words = ["--layers", "2", "--hidden", "64", "--vocab", "512", "--repeats", "2", "--batches", "short"]
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    rates = dict(re.findall(r"^  (.+): ([0-9]+) tokens per CPU second", done.stdout, re.MULTILINE))
    assert rates.keys() == {"trainer", "transformers, padded", "transformers, one by one"}
    assert all(int(rate) > 0 for rate in rates.values())


STEPS = """import sys
for number, _ in enumerate(sys.stdin):
    if number == {steps}:
        sys.exit(3)
    print('a library says this')
    print('{{"loss": {loss}, "norm": 2.0, "seconds": 4.0}}', flush=True)
"""


@pytest.mark.unit
def test_one_that_ends_or_trains_on_another_loss_is_left_out_and_the_others_stay() -> None:
    programs = {"same": (9, 1.00001), "other": (9, 1.1), "ends": (2, 1.0)}
    commands = {
        name: [sys.executable, "-c", STEPS.format(steps=steps, loss=loss)] for name, (steps, loss) in programs.items()
    }
    with (
        stepping(commands["same"], os.environ) as same,
        stepping(commands["other"], os.environ) as other,
        stepping(commands["ends"], os.environ) as ends,
    ):
        steps = {"ours": lambda: Made(1.0, 2.0, 8.0), "same": same, "other": other, "ends": ends}
        seconds, faults = timed(steps, 4, "ours")
    assert seconds == {"ours": [8.0] * 4, "same": [4.0] * 4}
    assert faults == {
        "ends": "its process ended with exit code 3",
        "other": "loss 1.1 and norm 2, not 1 and 2",
    }
