"""A layout that does not fit the site's GPUs is refused before anything is made, in a dry run as in the start."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from hf_folder import hf_folder
from rich.console import Console

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InputError
from aworld.launch.checks import check_model
from aworld.launch.prepare import prepare
from aworld.launch.start import dry_run

pytestmark = pytest.mark.unit
TINY = configuration.load(["recipe=demo"]).model.architecture
GPUS = ["site.hardware=h100", "site.train.gpus_per_node=2"]


def dry(config: Config) -> str:
    out = StringIO()
    dry_run(config, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    few = ["tasks.train=4", "tasks.held_out=2", "training.cold_start.tasks=2"]
    return [
        "recipe=demo",
        f"runs={tmp_path}",
        "name=run",
        f"model.path={hf_folder(tmp_path / 'model', TINY)}",
        *few,
        *GPUS,
    ]


@pytest.mark.parametrize("attempt", [dry, prepare])
def test_a_layout_that_does_not_fit_is_refused(attempt: Callable, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"stage 0 needs .* GB, and H100 has 75\.2 of 80 GB .*; set training\.micro_batch_tokens=512$"
    ):
        attempt(configuration.load([*words, "training.micro_batch_tokens=100000000"]))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_the_run_needs(words: list[str]) -> None:
    """On this machine as comments behind YAML."""
    said = dry(configuration.load(words))
    _, _, after = said.partition("# would be launched")
    assert all(line.startswith("#") for line in after.splitlines()[1:])
    assert "# Memory of a trainer's rank in GB, of 80 (H100); tensor 2" in after and "# in all: 24 rounds" in after


def test_an_evaluation_of_another_model_is_not_judged_by_the_architecture(words: list[str]) -> None:
    """Without training nobody compares the folder with `model.architecture`."""
    alone = ["pipeline.rounds=0", "training.cold_start.tasks=0", "training.micro_batch_tokens=100000000"]
    check_model(configuration.load([*words, *alone]))
