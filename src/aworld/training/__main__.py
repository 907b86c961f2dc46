"""One rank of the trainer, under torchrun or srun: `python -m aworld.training RUN [--round R]`."""

import argparse
import sys
import warnings
from pathlib import Path

from aworld import config as configuration
from aworld.errors import guarded
from aworld.processes import die_with_parent
from aworld.rundir import RunDir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--round", type=int)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="megatron")
    from aworld.training.stage import train

    run = RunDir(arguments.run)
    train(configuration.read(run.config), run, arguments.round)


if __name__ == "__main__":  # Megatron's checkpoint writer spawns processes that import this module again
    die_with_parent()
    sys.exit(guarded(main))
