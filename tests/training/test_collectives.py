"""Work of one rank that takes longer than a collective may."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

PROGRAM = """
import sys, time
from datetime import timedelta
import torch.distributed as dist
from aworld.errors import TaskError
from aworld.training.collectives import broadcast, on_rank_zero

rank = int(sys.argv[1])
dist.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2, timeout=timedelta(seconds=10)
)
def slow():
    time.sleep(15)
    return "read by " + str(rank)
def fails():
    raise TaskError("it is damaged")
print(on_rank_zero(slow), broadcast(rank), flush=True)
on_rank_zero(fails)
"""


def test_the_others_wait_for_the_first_rank_and_end_with_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM]
    ranks = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    (first, said), (other, silent) = [rank.communicate(timeout=300) for rank in ranks]
    assert first == other == "read by 0 0\n", said + silent
    assert "TaskError: it is damaged" in said and "Traceback" not in silent
    assert ranks[1].returncode == 3
