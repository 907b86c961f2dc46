"""Scratch folders: what is left by the dead goes, what the living hold stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from aworld.environments.scratch import folder_of_a_pool, stage
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.unit
HOLD = """
import sys, time
from pathlib import Path
from aworld.environments.scratch import folder_of_a_pool
with folder_of_a_pool(Path(sys.argv[1])) as folder:
    (folder / "shut").mkdir(mode=0)
    print(folder, flush=True)
    time.sleep(60)
"""


def test_folders_of_dead_workers_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    dead, living = (Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout)
    (tmp_path / "aworld-something-else").mkdir()
    workers[0].kill()
    workers[0].wait()
    assert dead.exists()
    with folder_of_a_pool(tmp_path) as own:
        assert sorted(tmp_path.iterdir()) == sorted([own, living, tmp_path / "aworld-something-else"])
        assert own.stat().st_mode & 0o777 == 0o700
    assert not own.exists()
    workers[1].kill()
    workers[1].wait()


def test_nothing_is_staged_through_a_link(tmp_path: Path) -> None:
    precious, scratch, attachment = tmp_path / "precious", tmp_path / "scratch", tmp_path / "data.csv"
    precious.write_text("mine")
    attachment.write_text("theirs")
    scratch.mkdir()
    (scratch / "data.csv").symlink_to(precious)
    with pytest.raises(InfrastructureError, match=r"data\.csv could not be put into the scratch: .*File exists"):
        stage((attachment,), scratch)
    assert precious.read_text() == "mine"
