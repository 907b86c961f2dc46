#!/usr/bin/env python
"""How long new weights take from the trainer to a node's shards: whole policies against deltas.

    python benchmarks/hand_over.py --keep                 # two minutes on 2 cores; six times its size in /tmp
    python benchmarks/hand_over.py --gb 8 --changed 0.02 --folder /scratch/me

The trainer's ranks are threads here, each with a file of random bf16 values. In a step a share of the values moves by
one unit in the last place, as AdamW moves them. After each step the values are published and copied to a node, as a
delta or whole, by the project's own code: ranks write, and a node makes its copy. The last lines do the arithmetic for
a 32B policy.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import results
from results import Figure

from aworld.errors import guarded
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
SAYS = (
    "The trainer's ranks are threads that publish random bf16 values, of which a share moves by one unit in the last "
    "place between two versions. A node makes its copy of each version, and the copy is compared with the values.",
    "The disk is a local one. On a shared file system the bytes count for more, as each node reads them.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="of the policy (default: 1)")
    parser.add_argument("--changed", type=float, default=0.06, help="share of the values that a step moves")
    parser.add_argument("--repeats", type=int, default=3, help="of each way")
    parser.add_argument("--folder", type=Path, help="stands for the shared file system (default: a new one in TMPDIR)")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    if arguments.folder and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder} is no folder")
    size = int(arguments.gb * 1e9)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = measure(Path(folder), size, arguments.changed, arguments.repeats)
    if arguments.keep:
        title = f"Hand-over of a policy of {arguments.gb:g} GB, {arguments.changed:.0%} of its values changed"
        results.keep("hand_over", title, SAYS, figures(rows))
    delta = rows["delta"]
    share = median(row.bytes for row in delta) / median(row.bytes for row in rows["whole"])
    print(f"delta / whole: {share:.4f} of the bytes")
    arithmetic(share, size / median(row.publish for row in delta), size / median(row.copy for row in delta))


@dataclass(frozen=True)
class Row:
    """A version that was handed over: bytes that were written, seconds to publish it and to copy it to the node."""

    bytes: int
    publish: float
    copy: float


def figures(rows: dict[str, list[Row]]) -> list[Figure]:
    def of_whole(name: str) -> list[float]:
        return results.ratios(*([getattr(row, name) for row in rows[way]] for way in ("delta", "whole")))

    return [
        Figure("bytes, a delta / a whole policy", of_whole("bytes")),
        Figure("seconds to publish, a delta / a whole policy", of_whole("publish")),
        Figure("seconds of a node's copy, from a delta / from a whole policy", of_whole("copy")),
    ]


def measure(folder: Path, size: int, changed: float, repeats: int) -> dict[str, list[Row]]:
    """What each way of handing over took, `delta` and `whole`."""
    run, scratch = RunDir(folder / "run"), str(folder / "node")
    names = [f"model-{at:05d}-of-{RANKS:05d}.safetensors" for at in range(1, RANKS + 1)]
    values = [weights(at, size // RANKS) for at in range(RANKS)]
    writers = [Writer(keeps=True) for _ in names]
    rows: dict[str, list[Row]] = {"delta": [], "whole": []}
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

    with ExitStack() as node:  # a node keeps the copy that its shards serve

        def hand_over(version: int, base: int | None) -> Row:
            published = timed(lambda: publish(version, base))
            before = node.pop_all()
            copied = timed(lambda: node.enter_context(on_this_node(run, version, scratch)))
            before.close()
            written = sum(file["size"] for file in marked_files(run.policy(version)).values())
            return Row(written, published, copied)

        def step_and_hand_over(way: str) -> float:
            version = 1 + sum(map(len, rows.values()))
            values[:] = [stepped(words, changed, version) for words in values]
            row = hand_over(version, version - 1 if way == "delta" else None)
            with on_this_node(run, version, scratch) as copy:
                for name, words in zip(names, values, strict=True):
                    assert (np.fromfile(copy / name, np.uint16) == words).all(), "the copy is not what was published"
            print(
                f"{way}: {row.bytes / 1e6:.1f} MB written, and read by a node; {row.publish:.2f} s to publish, "
                f"{row.copy:.2f} s to copy to the node"
            )
            rows[way].append(row)
            return row.publish + row.copy

        hand_over(0, None)
        results.alternate(repeats, delta=lambda: step_and_hand_over("delta"), whole=lambda: step_and_hand_over("whole"))
    return rows


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


def stepped(words: np.ndarray, changed: float, seed: int) -> np.ndarray:
    """The values with some of them moved by one unit in the last place."""
    rng, after = np.random.default_rng(seed), words.copy()
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
    sys.exit(guarded(main))
