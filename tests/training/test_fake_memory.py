"""The GPU memory of the trainer as shipped, counted with fake tensors by `benchmarks/fake_memory.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.planning.memory import OVERHEAD, memory

pytestmark = pytest.mark.engine

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "fake_memory.py"
FITS = 72e9  # bytes, of the 80 of a GPU

CASES = [
    pytest.param(["recipe=gaia"], id="32B at 40,960 tokens on 4 nodes"),
    pytest.param(
        ["recipe=grpo", "model=qwen3-32b-131k", "site.train.nodes=8"],
        id="32B at 131,072 tokens on 8 nodes",
        marks=pytest.mark.deep,
    ),
    pytest.param(["recipe=gaia-8b"], id="8B at 40,960 tokens on one node", marks=pytest.mark.deep),
    pytest.param(
        ["recipe=gaia", "model.recompute=full", "model.offload_optimizer=true"],
        id="recomputed in full, and offloaded",
        marks=pytest.mark.deep,
    ),
]


def peak(*arguments: str) -> float:
    """Bytes of a rank of the first stage, which holds the most micro-batches."""
    command = [sys.executable, str(PROGRAM), *arguments, "stages=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    return json.loads(line)["peak"] + OVERHEAD


@pytest.mark.parametrize("arguments", CASES)
def test_what_is_shipped_fits_and_needs_what_is_planned(arguments):
    found = peak(*arguments)
    assert found <= FITS
    config = configuration.load([*arguments, "model.path=/"])
    assert found == pytest.approx(memory(config)[0].needed, rel=0.1)
