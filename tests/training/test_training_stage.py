"""What the training stage takes for a sound policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from aworld.policies.folder import SUFFIX, Deltas
from aworld.publish import discard, marked_files, publish_folder
from aworld.rundir import RunDir
from aworld.training.stage import _has_sound_policy

pytestmark = pytest.mark.engine

WEIGHTS = "model.safetensors"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """One rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def publish(run: RunDir, base: bytes) -> None:
    """Policy 0, and policy 1 as a delta to it."""
    publish_folder(run.policy(0), lambda folder: (folder / WEIGHTS).write_bytes(base) and None)
    sums = marked_files(run.policy(0))[WEIGHTS]

    def fill(folder: Path) -> None:
        (folder / f"{WEIGHTS}{SUFFIX}").write_bytes(b"changes")
        Deltas(0, {WEIGHTS: {"size": 4, "crc32": 1, "base_crc32": sums["crc32"]}}).write(folder)

    publish_folder(run.policy(1), fill)


@pytest.mark.usefixtures("alone")
def test_a_policy_whose_base_is_damaged_or_made_anew_or_gone_is_made_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "run")
    publish(run, b"base")
    assert _has_sound_policy(run, 1)
    (run.policy(0) / WEIGHTS).write_bytes(b"b\0se")
    assert not _has_sound_policy(run, 1) and not run.policy(1).exists()
    assert f"{run.policy(1)} is damaged (0000/{WEIGHTS}); made anew" in capfd.readouterr().err

    discard(run.policy(0))
    publish(run, b"base")
    discard(run.policy(0))
    publish(run, b"other")
    assert not _has_sound_policy(run, 1) and not run.policy(1).exists() and run.policy(0).exists()
    publish(run, b"other")
    discard(run.policy(0))
    assert not _has_sound_policy(run, 1) and not run.policy(1).exists()
