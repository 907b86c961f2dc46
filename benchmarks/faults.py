#!/usr/bin/env python
"""Runs under a random killer on a private Slurm: how many kills, and what was lost or doubled.

    make cluster-packages                              # once
    python benchmarks/faults.py --kills 200            # three quarters of an hour on 2 CPU cores
    python benchmarks/faults.py --mode resident model.dtype=bfloat16 training.full_policy_every=4  # with deltas

Each run is a cold start, three rounds and two evaluations, as Slurm jobs in containers on four virtual nodes. Every few
seconds a process, a job, a node or the controller is hit; a run that stops is resumed, as its user would. One run
follows another until there were enough kills. Every (round, task, attempt) that was asked for has to be there once, and
every policy has to equal, bit for bit, that of an undisturbed training on the same trajectories.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "cluster"), str(Path(__file__).parents[1] / "tests")]

from cluster import Cluster
from environment_image import environment_image
from killer import Killer
from rich.console import Console
from slurm_conf import Settings
from small_run import assert_trained_as_if_undisturbed, assert_whole, lost_and_doubled, prepare

from aworld.errors import AWorldError

ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--every", type=float, default=6.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=["batch", "resident"], default="batch")
    parser.add_argument("overrides", nargs="*", help="settings of the runs, such as training.full_policy_every=4")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    image = environment_image()
    cluster = Cluster.temporary(Settings())
    os.environ.update(cluster.env)
    began, lost, doubled, wrong = time.monotonic(), 0, 0, 0

    def tell(struck: int) -> None:
        if struck % 20 == 0:
            console.print(f"{struck} of {arguments.kills} kills after {(time.monotonic() - began) / 60:.0f} minutes")

    try:
        cluster.start()
        killer = Killer(cluster, arguments.seed, tell)
        with tempfile.TemporaryDirectory() as folder:
            number = 0
            while killer.kills.total() < arguments.kills:
                number += 1
                overrides = [f"site.images.{name}={image}" for name in ("environment", "vllm", "megatron")]
                overrides += [
                    f"pipeline.mode={arguments.mode}",
                    f"pipeline.rounds={ROUNDS}",
                    "pipeline.max_restarts=20",
                ]
                overrides += [f"seed={number}", *arguments.overrides, f"name=run-{number}"]
                run = prepare(Path(folder), *overrides)
                before, since = killer.kills.total(), time.monotonic()
                missing = twice = 0
                run.command("resume")
                try:
                    killer.run_to_the_end(run, arguments.every, arguments.kills, 3600)
                    missing, twice = lost_and_doubled(run)
                    lost, doubled = lost + missing, doubled + twice
                    assert_whole(run)
                    assert_trained_as_if_undisturbed(run, ROUNDS, Path(folder) / str(number))
                except (AssertionError, AWorldError) as reason:
                    wrong += 1
                    console.print(f"run {number} is wrong: {reason}")
                    break  # whatever else is wrong on this cluster would come of it
                console.print(
                    f"run {number}: {killer.kills.total() - before} kills in {time.monotonic() - since:.0f} s, "
                    f"lost {missing}, doubled {twice}"
                )
    finally:
        cluster.stop()
    kinds = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in killer.kills.most_common())
    minutes = (time.monotonic() - began) / 60
    console.print(f"{killer.kills.total()} kills ({kinds}) in {minutes:.0f} minutes, {number} runs")
    console.print(f"lost {lost}, doubled {doubled}, wrong runs {wrong}; resumed {killer.resumes} times")
    return 1 if lost or doubled or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
