"""Copies of one undisturbed run, as it was after each stage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trial import TASKS, WORDS, Trial
from warm import aworld


@pytest.fixture(scope="session")
def stages(once: Callable[..., Path]) -> dict[str, Path]:
    """A run that is prepared, then played, gathered and trained without any fault, as it was after each stage."""
    names = ("prepare", "rollout", "gather", "train")

    def play(folder: Path) -> None:
        trial = Trial(Path(aworld("prepare", *WORDS, f"runs={folder}").stdout.strip()))
        for stage in names:
            if stage != "prepare":
                trial.finish(stage)
            shutil.copytree(trial.run.root, folder / stage, symlinks=True)

    folder = once("stages", play)
    return {stage: folder / stage for stage in names}


@pytest.fixture
def undisturbed(stages: dict[str, Path]) -> Trial:
    trial = Trial(stages["train"])
    assert len(trial.gathered()) == TASKS
    return trial


@pytest.fixture
def after(stages: dict[str, Path], tmp_path: Path):
    """`after(stage)`: a copy of the run as it was then."""
    return lambda stage: Trial(shutil.copytree(stages[stage], tmp_path / "run", symlinks=True))
