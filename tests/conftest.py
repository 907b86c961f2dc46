"""Small real checkpoints, tasks and an image, made once."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import environment_image as environment_image_of
import hypothesis
import pytest

from aworld import config as configuration
from aworld.config import Config, Tasks
from aworld.errors import InputError
from aworld.launch.prepare import texts
from aworld.models.tiny import make_checkpoint
from aworld.tasks.synthetic import SyntheticTasks

hypothesis.settings.register_profile("aworld", deadline=None)  # an example may take long where many share the machine
hypothesis.settings.load_profile("aworld")


@pytest.fixture(scope="session")
def config() -> Config:
    """The demo's configuration with few tasks."""
    return configuration.load(["recipe=demo", "tasks.train=120", "tasks.held_out=20"])


@pytest.fixture(scope="session")
def source(config: Config, tmp_path_factory: pytest.TempPathFactory) -> SyntheticTasks:
    return SyntheticTasks(Tasks(source="synthetic", train=120, held_out=20), tmp_path_factory.mktemp("tasks") / "tasks")


@pytest.fixture(scope="session")
def checkpoint(config: Config, source: SyntheticTasks, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`checkpoint(seed, tied)`: an HF folder with random weights."""

    @cache
    def make(seed: int = 0, tied: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        architecture = replace(config.model.architecture, tie_word_embeddings=tied, num_hidden_layers=4)
        make_checkpoint(architecture, texts(config, source), seed, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., None]:
    """`torchrun(program, ranks, *words)`: run a program in so many ranks on this machine."""

    def run(program: Path, ranks: int, *words: str) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        done = subprocess.run([*command, str(program), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]

    return run


@pytest.fixture(scope="session")
def environment_image() -> Path:
    """The environment image: AWORLD_ENVIRONMENT_IMAGE, else built from this machine's Debian mirror and kept."""
    if given := os.environ.get("AWORLD_ENVIRONMENT_IMAGE"):
        return Path(given)
    try:
        return environment_image_of.environment_image()
    except InputError as reason:
        pytest.skip(str(reason))
