"""Folders on a node: what is left by the dead goes, what the living hold stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aworld.nodelocal import own_folder, private_folder

pytestmark = pytest.mark.unit
HOLD = """
import sys, time
from pathlib import Path
from aworld.nodelocal import own_folder
with own_folder(Path(sys.argv[1]), "it") as folder:
    (folder / "shut").mkdir(mode=0)
    print(folder, flush=True)
    time.sleep(60)
"""


def test_folders_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) for _ in "abc"
    ]
    dead, living, elsewhere = (Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout)
    others = [tmp_path / "aworld-something-else", elsewhere, living]
    others[0].mkdir()
    (held,) = elsewhere.glob("held-*")
    held.rename(elsewhere / "held-another-node")  # where root is shared, that lock says nothing here
    for worker in (workers[0], workers[2]):
        worker.kill()
        worker.wait()
    assert dead.exists()
    with own_folder(tmp_path, "it") as own:
        assert sorted(tmp_path.iterdir()) == sorted([own, *others])
        assert own.stat().st_mode & 0o777 == 0o700
    assert not own.exists()
    workers[1].kill()
    workers[1].wait()


def test_a_folder_of_anothers_is_not_swept_and_not_waited_for(tmp_path: Path) -> None:
    trap = tmp_path / "aworld-it-trap"
    trap.mkdir()
    trap.chmod(0o777)  # as another user's, who may write there
    os.mkfifo(trap / f"held-{os.uname().nodename}")
    with own_folder(tmp_path, "it"):
        assert trap.exists()


def test_a_private_folder_is_this_users_alone(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "mine")
    assert made.stat().st_mode & 0o777 == 0o700 and private_folder(made) == made
    made.chmod(0o770)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (made, tmp_path / "link"):
        with pytest.raises(PermissionError, match="others may write to it"):
            private_folder(path)
