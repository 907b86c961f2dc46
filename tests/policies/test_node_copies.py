"""Copies on a node: made once, from the copy before and a delta, verified, and removed with their last user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_policies import NAMES, assert_is

from aworld.errors import InfrastructureError
from aworld.policies import node
from aworld.policies.folder import SUFFIX
from aworld.policies.node import on_this_node
from aworld.rundir import RunDir

pytestmark = pytest.mark.unit
HOLD = """
import sys, time
from pathlib import Path
from aworld.policies.node import on_this_node
from aworld.rundir import RunDir
with on_this_node(RunDir(Path(sys.argv[1])), 0, sys.argv[2]) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def zero(path: Path) -> None:
    """Destroy the contents of a file, and keep its size."""
    path.write_bytes(bytes(path.stat().st_size))


def copies(scratch: Path) -> list[str]:
    return sorted(path.name[:4] for path in scratch.glob("aworld-*/policies/*/*-*") if not path.suffix)


def test_the_workers_of_a_node_share_a_copy(run: RunDir, tmp_path: Path) -> None:
    scratch = str(tmp_path / "scratch")
    other = subprocess.Popen([sys.executable, "-c", HOLD, run.root, scratch], stdout=subprocess.PIPE, text=True)
    assert other.stdout
    shared = Path(other.stdout.readline().strip())
    for name in NAMES:
        zero(run.policy(0) / name)  # whoever reads it from here on gets zeros
    with on_this_node(run, 0, scratch) as own:
        assert own == shared
        assert_is(own, 0)
    assert copies(Path(scratch)) == ["0000"]  # the other one still uses it
    with on_this_node(run, 2, scratch) as later:  # from the copy of version 0 and two deltas
        assert_is(later, 2)
        assert copies(Path(scratch)) == ["0000", "0002"]
        other.kill()
        other.wait()
        with on_this_node(run, 3, scratch) as last:
            assert_is(last, 3)
            assert copies(Path(scratch)) == ["0002", "0003"]
    assert copies(Path(scratch)) == []


def test_a_damaged_copy_is_passed_over(run: RunDir, tmp_path: Path) -> None:
    with on_this_node(run, 1, str(tmp_path)) as copy:
        zero(copy / NAMES[0])
        with on_this_node(run, 2, str(tmp_path)) as folder:
            assert_is(folder, 2)


def test_what_a_killed_worker_left_is_removed(run: RunDir, tmp_path: Path) -> None:
    with on_this_node(run, 0, str(tmp_path)) as folder:
        place = folder.parent
    other = place.with_name("of-another-run")
    for name in (place / "0001-00000000.part", place / "0000-00000000", other / "0003-00000000"):
        name.mkdir(parents=True)
        name.with_suffix(".used").touch()
    (other / "lock").touch()
    with on_this_node(run, 1, str(tmp_path)) as folder:
        assert_is(folder, 1)
        assert copies(tmp_path) == ["0001"] and not list(place.glob("*.part"))


def test_where_there_is_no_room_a_line_says_so(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with on_this_node(run, 0, "/proc/nowhere") as folder:
        assert folder == run.policy(0)
    assert "warning: policy 0 is not copied to this node (/proc" in capsys.readouterr().err
    with on_this_node(run, 1, "/proc/nowhere") as folder:
        assert_is(folder, 1)
        assert folder.is_relative_to(run.root / "copies" / os.uname().nodename)
    monkeypatch.setattr(node, "SPARE_BYTES", 1 << 60)
    with on_this_node(run, 0, str(tmp_path)) as folder:
        assert folder == run.policy(0)
    assert "GB needed" in capsys.readouterr().err


def test_a_copy_of_a_damaged_policy_is_none(run: RunDir, tmp_path: Path) -> None:
    zero(run.policy(1) / (NAMES[0] + SUFFIX))
    with (
        pytest.raises(InfrastructureError, match=f"{run.policy(1)} is damaged"),
        on_this_node(run, 1, str(tmp_path)),
    ):
        pass
    assert copies(tmp_path) == []
