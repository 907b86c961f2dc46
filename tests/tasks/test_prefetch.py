"""Without a token and without a network; with both it needs an account that has accepted GAIA's terms."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def prefetch(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "aworld", "prefetch", "gaia", str(folder / "GAIA")]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        words, env=env | {"HF_HOME": str(folder), **variables}, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_a_token_the_gate_is_explained(tmp_path: Path) -> None:
    done = prefetch(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: GAIA is gated: accept its terms") and "HF_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_network_it_says_where_to_go(tmp_path: Path) -> None:
    done = prefetch(tmp_path, HF_TOKEN="hf_none", HF_HUB_OFFLINE="1")
    assert done.returncode == 4
    assert "cannot be reached from here" in done.stderr and "try a login node" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif("GAIA_TOKEN" not in os.environ, reason="no GAIA_TOKEN of an account that accepted GAIA's terms")
def test_with_a_token_the_copy_is_whole(tmp_path: Path) -> None:
    done = prefetch(tmp_path, HF_TOKEN=os.environ["GAIA_TOKEN"])
    assert done.returncode == 0, done.stderr
    assert "validation, 165 tasks" in done.stdout and "test, 301 tasks" in done.stdout
