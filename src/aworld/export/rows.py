"""What trainers' files are made of: sampled contexts, read an episode at a time, and files that are whole or absent."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aworld.bars import Advance
from aworld.publish import publishing
from aworld.rundir import RunDir
from aworld.trajectories import file
from aworld.trajectories.arrays import TrajectorySource

Row = dict[str, Any]
ROWS = 64  # of a parquet file that are held and written at once


@dataclass(frozen=True)
class Sampled:
    """A context with tokens that the policy sampled.

    Attributes:
        context: its index in the episode.
        ids, mask: int32 [n] and uint8 [n].
    """

    round: int
    task_id: str
    attempt: int
    reward: float
    agent: str
    context: int
    ids: np.ndarray
    mask: np.ndarray

    @property
    def identity(self) -> Row:
        """What tells the rows of a file apart."""
        names = ("round", "task_id", "attempt", "context", "agent", "reward")
        return {name: getattr(self, name) for name in names}


def sampled(run: RunDir, rounds: Iterable[int], least: float, advance: Advance) -> Iterator[Sampled]:
    """The contexts of the episodes with a reward of at least `least`, but those that the machine lost.

    Raises:
        InfrastructureError: a file of trajectories is damaged.
    """
    for number in rounds:
        source = file.open_(run.trajectories(number))
        for row, episode in enumerate(source.episodes):
            if episode["status"] != b"infra_error" and episode["reward"] >= least:
                yield from contexts(source, row)
        advance()


def contexts(source: TrajectorySource, row: int) -> list[Sampled]:
    """The contexts of one episode that hold sampled tokens."""
    numbers = source.contexts_of([row])
    first, episode = int(numbers[0]), source.episodes[row]
    kept = [int(number) for number in numbers if source.sequences["sampled"][number]]
    return [
        Sampled(
            source.round,
            episode["task_id"].decode(),
            int(episode["attempt"]),
            float(episode["reward"]),
            source.contexts["agent"][number].decode(),
            number - first,
            ids,
            mask,
        )
        for number, (ids, mask, _) in zip(kept, source.read(kept), strict=True)
    ]


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Publish the rows as JSON lines; returns their number. Without any there is no file."""

    def write(temporary: Path, found: Iterator[Row]) -> int:
        count = 0
        with open(temporary, "w", encoding="utf-8") as f:
            for row in found:
                f.write(json.dumps(row) + "\n")  # in ASCII, for no reader to find more line ends in it
                count += 1
        return count

    return _published(path, rows, write)


def write_parquet(path: Path, rows: Iterable[Row], schema: pa.Schema) -> int:
    """As `write_jsonl`, as a parquet file."""

    def write(temporary: Path, found: Iterator[Row]) -> int:
        count = 0
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while some := list(islice(found, ROWS)):
                writer.write_table(pa.Table.from_pylist(some, schema))
                count += len(some)
        return count

    return _published(path, rows, write)


def _published(path: Path, rows: Iterable[Row], write: Callable[[Path, Iterator[Row]], int]) -> int:
    found = iter(rows)
    if (first := next(found, None)) is None:
        path.unlink(missing_ok=True)  # of an earlier export, which would not fit the others
        return 0
    with publishing(path) as temporary:
        return write(temporary, chain([first], found))
