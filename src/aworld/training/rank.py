"""One rank of the trainer, under torchrun or srun: `python -m aworld.training.rank RUN [--round R]`."""

import argparse
import signal
import warnings
from pathlib import Path

from aworld import config as configuration
from aworld.errors import guarded
from aworld.imports import enter_without_running, without_collecting
from aworld.processes import Notice, die_with_parent, die_with_starter, end_with
from aworld.rundir import RunDir

die_with_parent()
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the launcher passes it on as TERM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--round", type=int)
    arguments = parser.parse_args()
    notice = Notice()  # before a library starts threads
    die_with_starter()
    warnings.filterwarnings("ignore", module="megatron")
    from aworld.training import cpu

    cpu.spare_the_compiler()
    enter_without_running("mbridge", "models")  # thirteen model families; the trainer uses one
    with without_collecting():
        from aworld.training.stage import train

    run = RunDir(arguments.run)
    train(configuration.read(run.config), run, arguments.round, lambda: notice.soon)


if __name__ == "__main__":
    end_with(lambda: guarded(main))
