"""A disk that is really full: one line and exit code 4; with room again the same command goes on, with nothing torn."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trial import Trial

MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]
PROGRAM = Path(__file__).with_name("on_a_full_disk.py")


def can_mount() -> bool:
    words = [*MOUNT, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(words, check=False, capture_output=True).returncode
    )


pytestmark = [
    pytest.mark.engine,
    pytest.mark.deep,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not can_mount(), reason="no user namespaces to mount a small disk in"),
]


@pytest.mark.parametrize(
    ("stage", "before", "free"),
    [
        ("rollout", "prepare", 0),  # not even a lock's process id
        ("rollout", "prepare", 40_000),  # the first claims and records
        ("gather", "rollout", 0),
        ("gather", "rollout", 8_192),  # a part of trajectories.h5
        ("train", "gather", 65_536),  # a part of a checkpoint
        ("train", "gather", 3_500_000),  # a checkpoint, and not the policy
    ],
)
def test_a_stage_whose_disk_is_full_says_so_and_goes_on_later(
    stage: str, before: str, free: int, after: Callable[[str], Trial], undisturbed: Trial
) -> None:
    trial = after(before)
    words = [*MOUNT, sys.executable, str(PROGRAM), str(trial.run.root), str(free), *trial.command(stage)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    full, again = json.loads(done.stdout)
    lines = [line for line in full["stderr"].splitlines() if line.startswith("error: ")]
    assert full["code"] == 4 and 1 <= len(lines) <= (2 if stage == "train" else 1), full  # a line per rank
    assert any("no space left on device" in line.lower() for line in lines), lines
    assert stage == "train" or "Traceback" not in full["stderr"]  # torch's, of a rank that loses another
    assert again["code"] == 0, again
    shutil.rmtree(trial.run.root)
    trial.run.root.with_name("kept").rename(trial.run.root)
    if stage == "train":
        trial.assert_trained_like(undisturbed)
        return
    if stage == "rollout":
        trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()
