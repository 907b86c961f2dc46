#!/usr/bin/env python
"""How long new weights take from the trainer to a node's shards: whole policies against deltas.

    python benchmarks/hand_over.py --gb 2 --changed 0.06          # two minutes on 2 cores; three times its size in /tmp

The trainer's ranks are threads here, each with a file of random bf16 values. In a step a share of the values moves by
one unit in the last place, as AdamW moves them. Each path is the project's own code: ranks write, and a node makes its
copy. The last lines do the arithmetic for a 32B policy.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from aworld.policies.folder import Deltas
from aworld.policies.node import on_this_node
from aworld.policies.reading import MOST_THREADS
from aworld.policies.writing import Writer, Written
from aworld.publish import begin_folder, finish_folder, marked_files
from aworld.rundir import RunDir

RANKS = 4
# Of the arithmetic: bytes of a 32B policy; nodes that read it, and the cores that each has for it; ranks that write it,
# and the cores of each; bytes a second of the shared file system, for all of them together
LARGE, NODES, CORES, WRITERS, RANK_CORES, FILE_SYSTEM = 65.5e9, 16, MOST_THREADS, 32, 8, 10e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.0, help="of the policy (default: 2)")
    parser.add_argument("--changed", type=float, default=0.06, help="share of the values that a step moves")
    parser.add_argument("--folder", type=Path, help="stands for the shared file system (default: a new one in TMPDIR)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Path(folder), int(arguments.gb * 1e9), arguments.changed)


def measure(folder: Path, size: int, changed: float) -> None:
    run, scratch = RunDir(folder / "run"), str(folder / "node")
    names = [f"model-{at:05d}-of-{RANKS:05d}.safetensors" for at in range(1, RANKS + 1)]
    values = [weights(at, size // RANKS) for at in range(RANKS)]
    writers = [Writer(keeps=True) for _ in names]
    print(f"policy of {size / 1e9:.1f} GB in {RANKS} files, {100 * changed:.0f} % of the values change")

    def publish(version: int, base: int | None) -> None:
        out = begin_folder(run.policy(version))

        def write(rank: int) -> Written:
            return writers[rank].write(out, version, [(names[rank], values[rank].view(np.uint8))], base)

        with ThreadPoolExecutor(RANKS) as ranks:
            every = list(ranks.map(write, range(RANKS)))
        made = {name: sums for written in every for name, sums in written.made.items()}
        if made and base is not None:
            Deltas(base, made).write(out)
        finish_folder(out, run.policy(version), {name: sums for each in every for name, sums in each.files.items()})

    with ExitStack() as copies:  # a node keeps the copy that its shards serve

        def copy(version: int) -> Path:
            return copies.enter_context(on_this_node(run, version, scratch))

        rows = [("whole", 0, timed(lambda: publish(0, None)), timed(lambda: copy(0)))]
        values = [stepped(words, changed) for words in values]
        rows.append(("delta", 1, timed(lambda: publish(1, 0)), timed(lambda: copy(1))))
        for name, words in zip(names, values, strict=True):
            assert (np.fromfile(copy(1) / name, np.uint16) == words).all(), "the copy is not what was published"
    sizes = [sum(file["size"] for file in marked_files(run.policy(version)).values()) for version in (0, 1)]
    for name, version, published, copied in rows:
        print(
            f"{name}: {sizes[version] / 1e6:.1f} MB written, and read by a node; {published:.2f} s to publish, "
            f"{copied:.2f} s to copy to the node"
        )
    print(f"delta / whole: {sizes[1] / sizes[0]:.4f} of the bytes")
    arithmetic(sizes[1] / sizes[0], size / rows[1][2], size / rows[1][3])


def arithmetic(share: float, encode: float, join: float) -> None:
    """Seconds until the weights of a 32B policy are live on all nodes, against the bytes over the bandwidth.

    Args:
        share: bytes of a delta, as a part of those of a whole policy.
        encode, join: bytes a second at which this machine publishes a delta and makes a copy from it.
    """
    print(
        f"32B ({LARGE / 1e9:.1f} GB) on {NODES} nodes of {CORES} cores, {WRITERS} ranks that write, a shared file "
        f"system of {FILE_SYSTEM / 1e9:.0f} GB/s:"
    )
    cores = os.cpu_count() or 1
    limit = LARGE * (1 + NODES) / FILE_SYSTEM
    moved = share * limit
    encoded = LARGE / encode * cores / (WRITERS * RANK_CORES)
    joined = LARGE / join * cores / CORES
    print(f"  whole: {limit:.1f} s = bytes written once and read by each node / bandwidth")
    print(
        f"  delta: {moved + encoded + joined:.1f} s = {moved:.1f} s of transfer, {encoded:.1f} s to encode, "
        f"{joined:.1f} s to apply: {(moved + encoded + joined) / limit:.2f} of bytes / bandwidth"
    )


def weights(seed: int, size: int) -> np.ndarray:
    """bfloat16 values as words (uint16), of the size that a model's have."""
    rng = np.random.default_rng(seed)
    words = np.empty(size // 2, np.uint16)
    for at in range(0, len(words), 1 << 24):
        part = words[at : at + (1 << 24)]
        part[:] = (rng.standard_normal(len(part), np.float32) * np.float32(0.02)).view(np.uint32) >> 16
    return words


def stepped(words: np.ndarray, changed: float) -> np.ndarray:
    """The values with some of them moved by one unit in the last place."""
    rng, after = np.random.default_rng(1), words.copy()
    for at in range(0, len(after), 1 << 24):
        part = after[at : at + (1 << 24)]
        moved = np.flatnonzero(rng.random(len(part), np.float32) < changed)
        part[moved] += rng.choice(np.array([1, 2**16 - 1], np.uint16), len(moved))
    return after


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
