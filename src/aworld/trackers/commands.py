"""`aworld track`: bring a run's trackers up to date."""

import argparse
from pathlib import Path

from aworld.commands import Commands, of_run
from aworld.errors import InfrastructureError, InputError
from aworld.rundir import open_run
from aworld.trackers import state, tracker
from aworld.trackers.beside import write_missing


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    track = of_run(commands, "track", _track, "write what TensorBoard, W&B or MLflow lacks of a run")
    track.add_argument("names", nargs="*", metavar="NAME", help="tensorboard, wandb or mlflow (default: the setting)")
    track.add_argument("--anew", action="store_true", help="forget what was written, and write all of it again")


def _track(arguments: argparse.Namespace) -> int:
    config, run = open_run(Path(arguments.run_dir))
    names = arguments.names or config.trackers
    if not names:
        raise InputError("this run has no trackers; name one, such as: aworld track RUN tensorboard")
    tracker.check(names)
    for name in names if arguments.anew else ():
        state.forget(run, name)
    found = write_missing(names, run)
    for name in names:
        if name not in found:
            print(f"{name}: nothing is left to write")
        elif said := found[name].said:
            print(said)
    return InfrastructureError.exit_code if any(outcome.reason for outcome in found.values()) else 0
