"""A run with policies."""

from pathlib import Path

import pytest
from random_policies import expected, publish

from aworld.policies.writing import Writer
from aworld.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Versions 0, 1, 2 and 3; 0 is whole, and the others are deltas."""
    run, writer = RunDir(tmp_path / "run"), Writer(keeps=True)
    for version in range(4):
        publish(run, writer, version, expected(version), version - 1 if version else None)
    return run
