#!/usr/bin/env python
"""Gather rounds of real sizes: bytes a second against a plain write of the same bytes, and the memory of the writer.

    python benchmarks/gather.py                    # 512 episodes of 40,000 tokens, and an eighth of them
    python benchmarks/gather.py --episodes 2048 --tokens 131072 --ranks 8 --folder /scratch/me

The journals of synthetic episodes are written first, by the rollout's own code. Then MPI's ranks gather them, and the
size of trajectories.h5 is written once more to the same disk by a plain loop, with an fsync at the end as the gather
has one. The median of so many repeats counts. Ranks read what the disk's cache may still hold; an idle machine and
a shared file system tell most.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.gather import gather
from aworld.trajectories.journal import Journal

PIECE = bytes(1 << 24)
MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=40_000, help="of an episode")
    parser.add_argument("--journals", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the file system to be measured (default: a temporary one)")
    parser.add_argument("--rank-of", metavar="RUN", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_of:
        as_rank(arguments.rank_of, arguments.episodes)
        return
    for episodes in (max(1, arguments.episodes // 8), arguments.episodes):
        folder = Path(tempfile.mkdtemp(prefix="gather-", dir=arguments.folder))
        try:
            print(json.dumps(measure(folder, episodes, arguments)), flush=True)
        finally:
            shutil.rmtree(folder)


def measure(folder: Path, episodes: int, arguments: argparse.Namespace) -> dict[str, float]:
    """The figures of a round of so many episodes."""
    run = RunDir(folder)
    recorded = write_journals(run, episodes, arguments.tokens, arguments.journals)
    gathers, plain, sizes = [], [], []
    for _ in range(arguments.repeats):
        gathers.append(start_ranks(folder, episodes, arguments.ranks))
        sizes.append(run.trajectories(1).stat().st_size)
        run.trajectories(1).unlink()
        plain.append(write_plainly(folder / "plain", sizes[-1]))
    assert len(set(sizes)) == 1
    rate, other = (sizes[0] / MB / median(seconds) for seconds in ([g["seconds"] for g in gathers], plain))
    return {
        "episodes": episodes,
        "tokens": arguments.tokens,
        "ranks": arguments.ranks,
        "file_MB": round(sizes[0] / MB, 1),
        "journals_MB": round(sum(p.stat().st_size for p in run.round(1).glob("journals/*")) / MB, 1),
        "seconds_to_record_an_episode": round(recorded / episodes, 4),
        "gather_MB_per_s": round(rate, 1),
        "plain_MB_per_s": round(other, 1),
        "of_plain": round(rate / other, 2),
        "writer_peak_MB": round(max(g["peak_bytes"] for g in gathers) / MB, 1),
    }


def write_journals(run: RunDir, episodes: int, tokens: int, journals: int) -> float:
    """Record synthetic episodes, with about as many bytes of text as a real one has; returns the seconds it took."""
    rng, seconds = np.random.default_rng(0), 0.0
    turns = [Turn("assistant", "word " * (tokens // 50)) for _ in range(40)]
    for number in range(journals):
        with Journal(run.round(1) / "journals" / f"worker-{number}.journal") as log:
            for at in range(number, episodes, journals):
                mask = rng.integers(0, 2, tokens)
                episode = Episode(
                    *(1, f"task-{at // 8:05}", at % 8, 1, "question"),
                    rng.integers(0, 151_936, tokens).tolist(),
                    mask.tolist(),
                    (-rng.random(tokens, np.float32) * mask).tolist(),
                    *(turns, "answer", 1.0, "answered", {"total": 60.0}, 0, at),
                )
                began = time.perf_counter()
                log.append(episode)
                seconds += time.perf_counter() - began
    return seconds


def start_ranks(folder: Path, episodes: int, ranks: int) -> dict[str, float]:
    """Gather with so many ranks; the seconds of the gather and the peak memory of its writer."""
    beside = Path(sys.executable).with_name("mpiexec")
    command = [str(beside) if beside.exists() else "mpiexec", "-n", str(ranks), sys.executable, __file__]
    command += ["--rank-of", str(folder), "--episodes", str(episodes)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def as_rank(folder: Path, episodes: int) -> None:
    """One rank of the gather; the writer prints its figures."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    began = time.perf_counter()
    gather(RunDir(folder), 1, episodes)
    seconds = time.perf_counter() - began
    if MPI.COMM_WORLD.rank == 0:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def write_plainly(path: Path, size: int) -> float:
    """The seconds that a plain write of so many bytes takes, with an fsync at the end."""
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as f:
        for at in range(0, size, len(PIECE)):
            f.write(PIECE[: size - at])
        os.fsync(f.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


if __name__ == "__main__":
    main()
