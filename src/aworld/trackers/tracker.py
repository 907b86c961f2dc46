"""What a tracker is, which ones there are, and whether their packages are installed."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aworld.errors import InputError

FOLDER = "trackers"  # of a run directory
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}  # the module of each tracker's package


@dataclass(frozen=True)
class Entry:
    """The figures of a round or of an evaluation.

    Attributes:
        place: of the entry among all entries of the run, from 0.
        benchmark: the name of the evaluation; empty: it is a round.
        step: the number of the round, or the version of the policy.
        time: when it ended, in whole seconds since 1970. Each entry has a later one than the entry before it.
        figures: by their names, such as train/loss.
    """

    place: int
    benchmark: str
    step: int
    time: int
    figures: Mapping[str, float]


class Tracker(Protocol):
    """A place where people look at figures."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the entries; once it returns they are durable.

        An earlier process may have written them, or a part of them, and died before it could note that. They are there
        once all the same.

        Args:
            entries: in the order of their places, which follow each other.
        """


@dataclass(frozen=True)
class About:
    """The run that a tracker shows.

    Attributes:
        name: of the run.
        key: unique among all runs; the same in all processes of the run.
        folder: where the tracker keeps its files.
        settings: of the run, by their full names.
    """

    name: str
    key: str
    folder: Path
    settings: Mapping[str, object]


def make(name: str, about: About) -> Tracker:
    """The tracker of this name. Imports its package, which takes seconds."""
    match name:
        case "tensorboard":
            from aworld.trackers.tensorboard import TensorBoard

            return TensorBoard(about)
        case "wandb":
            from aworld.trackers.wandb import WeightsAndBiases

            return WeightsAndBiases(about)
        case "mlflow":
            from aworld.trackers.mlflow import MLflow

            return MLflow(about)
    raise InputError(f"trackers: there is no '{name}'; valid: {', '.join(PACKAGES)}")


def check(names: Sequence[str]) -> None:
    """Check the names of trackers, and that their packages are there. Imports none of them.

    Raises:
        InputError: a name is unknown or there twice, or a package is not installed.
    """
    for name in names:
        if name not in PACKAGES:
            raise InputError(f"trackers: there is no '{name}'; valid: {', '.join(PACKAGES)}")
        if names.count(name) > 1:
            raise InputError(f"trackers: '{name}' is there twice; leave one of them out")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(
                f"trackers: the package of '{name}' is not installed; do: pip install 'aworld-slurm[{name}]'"
            )
