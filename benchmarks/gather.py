#!/usr/bin/env python
"""Gather rounds of real sizes: bytes a second against a plain write of the same bytes, and the memory of the writer.

    python benchmarks/gather.py --keep             # 2,048 episodes of 40,000 tokens, and an eighth of them; a minute
    python benchmarks/gather.py --episodes 4096 --tokens 131072 --ranks 8 --folder /scratch/me

The journals of synthetic episodes are written first, by the rollout's own code. Then MPI's ranks gather them, and a
plain loop writes as many bytes to the same disk, with an fsync at the end as the gather has one. Both are repeated in
pairs; `of_plain` has the pairs' ratios. Ranks read what the disk's cache may still hold.

Beside other work the gather gets less than its share: it needs more cores than a plain write. So the seconds of CPU are
given as well. `parts_s_per_GB` has them for each part alone, and the seconds of flushing to the disk. Readers read and
check, the writer receives and writes, the disk flushes, all at the same time. So the largest of the three in
`at_least_s_per_GB` bounds the rate.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import results
from results import Figure

from aworld.errors import TaskError, guarded
from aworld.rundir import RunDir
from aworld.trajectories import file
from aworld.trajectories.arrays import tables
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.frames import TOKEN_BYTES, read_into
from aworld.trajectories.gather import CHUNK, gather
from aworld.trajectories.journal import Journal, by_identity, listed_in
from aworld.trajectories.pieces import cut
from aworld.trajectories.record import checksum

MESSAGES = 16
MB, GB = 1e6, 1e9
SAYS = (
    "MPI's ranks gather the journals of made-up episodes into one file, and a plain loop writes as many bytes to the "
    "same disk. Both flush the disk at their end.",
    "The gather reads the journals, checks them and writes; the plain loop only writes. Ranks read what the disk's "
    "cache may still hold; starting MPI is not counted.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=40_000, help="of an episode")
    parser.add_argument("--journals", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="on the file system to be measured (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    parser.add_argument("--rank-of", metavar="RUN", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_of:
        as_rank(arguments.rank_of, arguments.episodes)
        return
    if arguments.folder and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder} is no folder")
    figures = []
    for episodes in (max(1, arguments.episodes // 8), arguments.episodes):
        folder = Path(tempfile.mkdtemp(prefix="gather-", dir=arguments.folder))
        try:
            found = measure(folder, episodes, arguments)
        finally:
            shutil.rmtree(folder)
        print(json.dumps(found), flush=True)
        of = f"{episodes:,} episodes of {arguments.tokens:,} tokens"
        goal = 0.8 if episodes == arguments.episodes else None  # a small round takes a quarter of a second anyway
        figures.append(Figure(f"bytes/s, gather / a plain write; {of}", found["of_plain"], at_least=goal))
        figures.append(Figure(f"the most memory of the writer; {of}", found["writer_peak_MB"], "MB"))
    if arguments.keep:
        results.keep("gather", f"Gather by {arguments.ranks} ranks", SAYS, figures, ["mpich", "mpi4py", "h5py"])


def measure(folder: Path, episodes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of a round of so many episodes."""
    run = RunDir(folder)
    recorded = write_journals(run, episodes, arguments.tokens, arguments.journals)
    gathers: list[dict[str, float]] = []
    plains: list[dict[str, float]] = []
    size = 0

    def gathered() -> float:
        nonlocal size
        gathers.append(start_ranks(folder, episodes, arguments.ranks))
        size = run.trajectories(1).stat().st_size
        run.trajectories(1).unlink()
        return gathers[-1]["seconds"]

    def written_plainly() -> float:
        plains.append(write_plainly(folder / "plain", size))
        return plains[-1]["seconds"]

    seconds = results.alternate(arguments.repeats, gather=gathered, plain=written_plainly)

    def typical(measured: list[dict[str, float]], key: str) -> float:
        return median(one[key] for one in measured)

    parts = measure_parts(run) | {"receive": typical(gathers, "receive"), "flush": typical(plains, "flush") / size * GB}
    bounds = {
        "readers": (parts["read"] + parts["check"]) / max(1, arguments.ranks - 1),
        "writer": parts["receive"] + parts["write"],
        "disk": parts["flush"],
    }
    return {
        "episodes": episodes,
        "tokens": arguments.tokens,
        "ranks": arguments.ranks,
        "file_MB": round(size / MB, 1),
        "journals_MB": round(sum(p.stat().st_size for p in run.round(1).glob("journals/*")) / MB, 1),
        "seconds_to_record_an_episode": round(recorded / episodes, 4),
        "gather_MB_per_s": round(size / MB / typical(gathers, "seconds"), 1),
        "plain_MB_per_s": round(size / MB / typical(plains, "seconds"), 1),
        "of_plain": [round(ratio, 3) for ratio in results.ratios(seconds["plain"], seconds["gather"])],
        "gather_cpu_s_per_GB": round(typical(gathers, "cpu") / size * GB, 2),
        "plain_cpu_s_per_GB": round(typical(plains, "cpu") / size * GB, 2),
        "parts_s_per_GB": {name: round(seconds, 2) for name, seconds in parts.items()},
        "at_least_s_per_GB": {name: round(seconds, 2) for name, seconds in bounds.items()},
        "writer_peak_MB": [round(own["peak_bytes"] / MB, 1) for own in gathers],
        "load": os.getloadavg()[0],
    }


def measure_parts(run: RunDir) -> dict[str, float]:
    """Seconds of CPU by GB of tokens, of reading journals, of checking and of writing, each alone."""
    entries = [candidates[0] for candidates in by_identity(listed_in(run.round(1) / "journals"))]
    n = max(entry.record.tokens for entry in entries)
    arrays = np.zeros(n, "<i4"), np.zeros(n, "u1"), np.zeros(n, "<f4")
    spent = dict.fromkeys(("read", "check", "write"), 0.0)

    @contextmanager
    def counted(part: str) -> Iterator[None]:
        began = time.process_time()
        yield
        spent[part] += time.process_time() - began

    for entry in entries:
        with counted("read"):  # and checks
            assert read_into(entry, arrays)
        with counted("check"):
            checksum(*arrays)
    spent["read"] -= spent["check"]
    piece_bytes = os.urandom(max(CHUNK, TOKEN_BYTES * n))
    with file.writing(run.root / "alone.h5", 1, tables([entry.record for entry in entries])) as put:
        for piece in cut(entries, CHUNK):
            places = (("<i4", 0), ("u1", 8 * piece.tokens), ("<f4", 4 * piece.tokens))
            ids, mask, logprobs = (np.frombuffer(piece_bytes, dtype, piece.tokens, at) for dtype, at in places)
            with counted("write"):
                put(piece.at, (ids, mask, logprobs))
    size = TOKEN_BYTES * sum(entry.record.tokens for entry in entries)
    return {part: seconds / size * GB for part, seconds in spent.items()}


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
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise TaskError(f"the gather by {ranks} ranks ended with exit code {done.returncode}; the lines above say why")
    return json.loads(done.stdout.splitlines()[-1])


def as_rank(folder: Path, episodes: int) -> None:
    """One rank of the gather; the writer prints the figures."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    world.Barrier()
    began, cpu = time.perf_counter(), time.process_time()
    gather(RunDir(folder), 1, episodes)
    seconds, cpu = time.perf_counter() - began, world.reduce(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    receive = seconds_to_receive(world)
    if world.rank == 0:
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_bytes": peak, "receive": receive}), flush=True)


def seconds_to_receive(world: Any) -> float:
    """Of the writer's CPU, by GB of messages. A message that is there already is received without waiting."""
    data, spent = np.ones(CHUNK, "u1"), 0.0
    for _ in range(MESSAGES if world.size > 1 else 0):
        sent = world.Isend(data, dest=0) if world.rank == 1 else None
        world.Barrier()
        if world.rank == 0:
            began = time.process_time()
            world.Recv(data, source=1)
            spent += time.process_time() - began
        elif sent:
            sent.Wait()
    return spent / (MESSAGES * CHUNK) * GB


def write_plainly(path: Path, size: int) -> dict[str, float]:
    """The seconds that a plain write of so many bytes takes, with an fsync at the end; of them CPU, and flushing."""
    piece = memoryview(os.urandom(CHUNK))  # zeros would be copied from the processor's cache
    began, cpu = time.perf_counter(), time.process_time()
    with open(path, "wb", buffering=0) as f:
        for at in range(0, size, CHUNK):
            f.write(piece[: size - at])
        flushing = time.perf_counter()
        os.fsync(f.fileno())
    ended = time.perf_counter()
    path.unlink()
    return {"seconds": ended - began, "cpu": time.process_time() - cpu, "flush": ended - flushing}


if __name__ == "__main__":
    sys.exit(guarded(main))
