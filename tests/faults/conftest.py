"""Copies of one undisturbed run, as it was after each stage."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trial import TASKS, WORDS, Trial


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that is prepared, then played, gathered and trained without any fault, as it was after each stage."""
    folder = tmp_path_factory.mktemp("undisturbed")
    words = [sys.executable, "-m", "aworld", "prepare", *WORDS, f"runs={folder}"]
    trial = Trial(Path(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()))
    found = {}
    for stage in ("prepare", "rollout", "gather", "train"):
        if stage != "prepare":
            trial.finish(stage)
        found[stage] = shutil.copytree(trial.run.root, folder / stage, symlinks=True)
    return found


@pytest.fixture
def undisturbed(stages: dict[str, Path]) -> Trial:
    trial = Trial(stages["train"])
    assert len(trial.gathered()) == TASKS
    return trial


@pytest.fixture
def after(stages: dict[str, Path], tmp_path: Path):
    """`after(stage)`: a copy of the run as it was then."""
    return lambda stage: Trial(shutil.copytree(stages[stage], tmp_path / "run", symlinks=True))
