"""Work of one rank that takes longer than a collective may."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aworld.publish import publish_folder

pytestmark = pytest.mark.engine

PROGRAM = """
import sys, time
from datetime import timedelta
import torch.distributed as dist
from aworld.errors import TaskError
from aworld.processes import end_with
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
end_with(lambda: on_rank_zero(fails))
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


SHARED = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from aworld.processes import end_with
from aworld.training.collectives import damaged_collectively, leave_ranks, on_every_rank

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
read = []
sys.addaudithook(lambda event, args: event == "open" and read.append(str(args[0])))
found = damaged_collectively(Path(sys.argv[3]))
print(json.dumps([found, [Path(path).name for path in read if path.endswith(".bin")]]), flush=True)
end_with(lambda: on_every_rank(lambda: 1 / 0 if rank else None))
"""


def test_the_ranks_share_the_reading_of_checksums(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    files = {f"{name}.bin": bytes(size) for name, size in (("a", 500), ("b", 400), ("c", 300), ("d", 200))}
    publish_folder(folder, lambda where: [(where / name).write_bytes(data) for name, data in files.items()] and None)
    (folder / "b.bin").write_bytes(b"\1" + bytes(399))
    words = [sys.executable, "-c", SHARED]
    ranks = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store"), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outcomes = [rank.communicate(timeout=300) for rank in ranks]
    (found, read), (same, others) = (json.loads(said) for said, _ in outcomes)
    assert found == same == ["b.bin"]
    assert sorted(read) == ["a.bin", "d.bin"] and sorted(others) == ["b.bin", "c.bin"]
    assert "Traceback" not in outcomes[0][1] and "ZeroDivisionError" in outcomes[1][1]
    assert [rank.returncode for rank in ranks] == [4, 1]
