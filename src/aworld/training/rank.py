"""One rank of the trainer, forked by `launch`, or under srun: `python -m aworld.training.rank RUN [--round R]`."""

import argparse
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

from aworld import config as configuration
from aworld.errors import guarded
from aworld.imports import enter_without_running, without_collecting, without_listing_packages
from aworld.processes import Notice, die_with_parent, die_with_starter, end_with
from aworld.rundir import RunDir


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--round", type=int)
    arguments = parser.parse_args()
    return be(RunDir(arguments.run), arguments.round)


def be(run: RunDir, round_: int | None) -> int:
    """Be the rank that the environment says, to its end; returns the exit code."""
    notice = Notice()  # before a library starts threads
    die_with_starter()

    def work() -> None:
        train = load()
        train(configuration.read(run.config), run, round_, lambda: notice.soon)

    return guarded(work)


def load() -> Callable[..., None]:
    """Import what a rank needs; returns `aworld.training.stage.train`."""
    warnings.filterwarnings("ignore", module="megatron")
    from aworld.training import cpu

    cpu.spare_the_compiler()
    enter_without_running("mbridge", "models")  # thirteen model families; the trainer uses one
    with without_collecting(), without_listing_packages():
        from aworld.training.stage import train

    return train


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the launcher passes it on as TERM
    end_with(main)
