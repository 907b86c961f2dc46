"""`trajectories.h5`: what training reads. Flat ragged arrays, tables of episodes and contexts, checksums.

The layout is documented in docs/trajectory-file-format.md; any HDF5 reader opens it.
"""

import hashlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from aworld.errors import InfrastructureError
from aworld.publish import publishing
from aworld.rundir import RunDir
from aworld.trajectories.arrays import COLUMNS, CONTEXT, SEQUENCE, Trajectories, TrajectorySource, offsets_of
from aworld.trajectories.frames import Arrays
from aworld.trajectories.record import checksum

FORMAT_VERSION = 4
WHOLE_SUMS_VERSION = 3  # still read: its tokens have checksums of whole datasets, and it has no `sequences`
MEND = "remove it and gather the round again"
TOKENS = {"tokens": np.dtype("<i4"), "mask": np.dtype("u1"), "logprobs": np.dtype("<f4")}  # a value for each token
TABLES = {
    "offsets": np.dtype("<i8"),
    "episodes": COLUMNS,
    "contexts": CONTEXT,
    "context_offsets": np.dtype("<i8"),
    "sequences": SEQUENCE,
}
PIECE = 1 << 24  # bytes read at once to check a whole dataset

Put = Callable[[int, Arrays], None]


class StoredTrajectories(TrajectorySource):
    """The episodes of a file: the tables in memory, the tokens on disk until they are asked for."""

    def __init__(self, path: Path, round_: int, tables: dict[str, np.ndarray], places: np.ndarray | None = None):
        """
        Args:
            places: int64 [C], where each context begins in the file's datasets; None: the file has no others.
        """
        self.path, self.round = path, round_
        self.offsets, self.episodes = tables["offsets"], tables["episodes"]
        self.contexts, self.context_offsets = tables["contexts"], tables["context_offsets"]
        self._sequences = tables["sequences"]
        begins, ends, self._episode = self.spans()
        self._places, self._lengths = begins if places is None else places, ends - begins

    @property
    def sequences(self) -> np.ndarray:
        return self._sequences

    def read(self, contexts: Sequence[int] | np.ndarray) -> list[Arrays]:
        with _opened(self.path) as f:
            return list(self._checked(f, contexts))

    def verify(self, contexts: Sequence[int] | np.ndarray) -> None:
        with _opened(self.path) as f:
            for _ in self._checked(f, contexts):
                pass

    def select(self, rows: Sequence[int] | np.ndarray) -> "StoredTrajectories":
        index, contexts = np.asarray(rows, np.int64), self.contexts_of(rows)
        tables = {
            "offsets": offsets_of(np.diff(self.offsets)[index]),
            "episodes": self.episodes[index],
            "contexts": self.contexts[contexts],
            "context_offsets": offsets_of(np.diff(self.context_offsets)[index]),
            "sequences": self.sequences[contexts],
        }
        return StoredTrajectories(self.path, self.round, tables, self._places[contexts])

    def _checked(self, f: h5py.File, contexts: Sequence[int] | np.ndarray) -> Iterator[Arrays]:
        tokens, mask, logprobs = (f[name] for name in TOKENS)
        for number in contexts:
            begin = self._places[number]
            own = slice(begin, begin + self._lengths[number])
            found = tokens[own], mask[own], logprobs[own]
            if checksum(*found) != self.sequences["crc32"][number]:
                raise InfrastructureError(f"{self.path}: {self._name(number)}: wrong checksum of its tokens; {MEND}")
            yield found

    def _name(self, context: int) -> str:
        row = self.episodes[self._episode[context]]
        return f"attempt {row['attempt']} at {row['task_id'].decode(errors='replace')}"


def write(path: Path, trajectories: Trajectories) -> None:
    """Publish the file of trajectories in memory. The same trajectories give the same bytes.

    Raises:
        InfrastructureError: an array is of the wrong type, or lengths do not fit together.
    """
    arrays = trajectories.tokens, trajectories.mask, trajectories.logprobs
    tables = {name: getattr(trajectories, name) for name in TABLES if name != "sequences"}
    fit = all(array.dtype == dtype for array, dtype in zip(arrays, TOKENS.values(), strict=True))
    if not (fit and _fits(tables, [len(array) for array in arrays])):
        raise InfrastructureError(f"{path}: refusing to write arrays whose types or lengths do not fit together")
    with writing(path, trajectories.round, tables | {"sequences": trajectories.sequences}) as put:
        put(0, arrays)


@contextmanager
def writing(path: Path, round_: int, tables: dict[str, np.ndarray]) -> Iterator[Put]:
    """Publish a file whose tokens come in pieces. The pieces do not show in the bytes of the file.

    Args:
        tables: by the names of TABLES.

    Yields:
        A function that writes a piece: the place of its first token, its token ids, mask and log-probabilities.
    """
    versions, count = tables["episodes"]["policy_version"], int(tables["offsets"][-1])
    with publishing(path) as temporary, h5py.File(temporary, "w", libver="v110") as f:
        f.attrs["format_version"] = FORMAT_VERSION
        f.attrs["round"] = round_
        f.attrs["policy_version"] = [versions.min(), versions.max()] if len(versions) else [-1, -1]
        f.attrs["created_by"] = _created_by()
        for name, dtype in TOKENS.items():  # every place is written once: HDF5 need not fill them before
            f.create_dataset(name, (count,), dtype=dtype, track_times=False, fill_time="never")
        for name, dtype in TABLES.items():
            array = np.ascontiguousarray(tables[name])
            f.create_dataset(name, data=array, dtype=dtype, track_times=False).attrs["sha256"] = _sha256(array)

        def put(at: int, arrays: Arrays) -> None:
            for name, array in zip(TOKENS, arrays, strict=True):
                if len(array):
                    f[name][at : at + len(array)] = array
                    begin = f[name].id.get_offset() + at * array.itemsize
                    # the disk takes it now, while more is read, and not all of the file at the end
                    os.posix_fadvise(f.id.get_vfd_handle(), begin, array.nbytes, os.POSIX_FADV_DONTNEED)

        yield put


def open_(path: Path) -> TrajectorySource:
    """The trajectories in a file. Its tables are read and checked, its tokens when they are asked for.

    A file of format 3, which has no checksum for a part of its tokens, is read and checked as a whole.

    Raises:
        InfrastructureError: the file is missing, truncated or of another format, or a table's checksum is wrong.
    """
    with _opened(path) as f:
        if f.attrs["format_version"] == WHOLE_SUMS_VERSION:
            return _read_whole(path, f)
        return _stored(path, f)


def read(path: Path) -> Trajectories:
    """All trajectories in a file, checked.

    Raises:
        InfrastructureError: as `open_`; or the checksum of an episode's tokens is wrong.
    """
    with _opened(path) as f:
        if f.attrs["format_version"] == WHOLE_SUMS_VERSION:
            return _read_whole(path, f)
        stored = _stored(path, f)
        tables = {name: getattr(stored, name) for name in TABLES if name != "sequences"}
        found = Trajectories(round=stored.round, **{name: f[name][()] for name in TOKENS}, **tables)
        numbers = range(len(found.contexts))
        for number, own, crc32 in zip(numbers, found.read(numbers), stored.sequences["crc32"], strict=True):
            if checksum(*own) != crc32:
                stored.read([number])  # names it
        return found


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The `episodes` [E] of a file and the number of tokens of each, int64 [E]; nothing else is read.

    Raises:
        InfrastructureError: as `open_`.
    """
    with _opened(path) as f:
        tables = _tables(path, f, ("offsets", "episodes"))
        return tables["episodes"], np.diff(tables["offsets"])


def verify(path: Path) -> None:
    """Check all of a file; holds a small part of it at a time.

    Raises:
        InfrastructureError: as `read`.
    """
    with _opened(path) as f:
        if f.attrs["format_version"] == WHOLE_SUMS_VERSION:
            _check_whole(path, f)
            return
        stored = _stored(path, f)
    stored.verify(range(len(stored.contexts)))


def discard_if_damaged(run: RunDir, round_: int) -> None:
    """Remove a round's trajectories if they cannot be read, so that its journals are gathered again."""
    path = run.trajectories(round_)
    try:
        if path.exists():
            verify(path)
    except InfrastructureError as damage:
        print(f"warning: {damage}; removed", file=sys.stderr)
        path.unlink()
        shutil.rmtree(run.round(round_) / "closing", ignore_errors=True)  # the claim of the gather that is done


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as f:
            version = f.attrs["format_version"]
            if version not in (FORMAT_VERSION, WHOLE_SUMS_VERSION):
                known = f"{WHOLE_SUMS_VERSION} and {FORMAT_VERSION}"
                raise InfrastructureError(f"{path}: format {version}, this reads {known}")
            yield f
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # any of them may come from a torn file
        raise InfrastructureError(f"{path} cannot be read ({error}); {MEND}") from error


def _stored(path: Path, f: h5py.File) -> StoredTrajectories:
    tables = _tables(path, f, tuple(TABLES))
    _check_fit(path, f, tables)
    return StoredTrajectories(path, int(f.attrs["round"]), tables)


def _read_whole(path: Path, f: h5py.File) -> Trajectories:
    """All of a file of format 3."""
    tables = _check_whole(path, f)
    return Trajectories(round=int(f.attrs["round"]), **{name: f[name][()] for name in TOKENS}, **tables)


def _check_whole(path: Path, f: h5py.File) -> dict[str, np.ndarray]:
    """The tables of a file of format 3, once all of it is checked, piece by piece."""
    tables = _tables(path, f, tuple(name for name in TABLES if name != "sequences"))
    _check_fit(path, f, tables)
    for name in TOKENS:
        digest, step = hashlib.sha256(), PIECE // f[name].dtype.itemsize
        for at in range(0, len(f[name]), step):
            digest.update(f[name][at : at + step].data)
        _check_sum(path, f, name, digest.hexdigest())
    return tables


def _tables(path: Path, f: h5py.File, names: Sequence[str]) -> dict[str, np.ndarray]:
    tables = {name: f[name][()] for name in names}
    for name, table in tables.items():
        _check_sum(path, f, name, _sha256(table) if table.dtype == TABLES[name] else "")
    return tables


def _check_sum(path: Path, f: h5py.File, name: str, digest: str) -> None:
    if f[name].attrs["sha256"] != digest:
        raise InfrastructureError(f"{path}: the checksum of '{name}' is wrong; {MEND}")


def _check_fit(path: Path, f: h5py.File, tables: dict[str, np.ndarray]) -> None:
    fit = all(f[name].dtype == dtype and f[name].ndim == 1 for name, dtype in TOKENS.items())
    if not (fit and _fits(tables, [len(f[name]) for name in TOKENS])):
        raise InfrastructureError(f"{path}: the offsets do not fit the other arrays; {MEND}")


def _fits(tables: dict[str, np.ndarray], counts: list[int]) -> bool:
    """Whether the tables are of the right types, their lengths fit together, and contexts cover the tokens.

    Args:
        counts: the lengths of `tokens`, `mask` and `logprobs`.
    """
    if any(table.dtype != TABLES[name] or table.ndim != 1 for name, table in tables.items()):
        return False
    offsets, owned, contexts = tables["offsets"], tables["context_offsets"], tables["contexts"]
    if not (
        len(offsets) == len(owned) == len(tables["episodes"]) + 1
        and offsets[0] == owned[0] == 0
        and {int(offsets[-1])} == set(counts)
        and (np.diff(offsets) >= 0).all()
        and owned[-1] == len(contexts) == len(tables.get("sequences", contexts))
        and (np.diff(owned) > 0).all()
    ):
        return False
    begins = np.repeat(offsets[:-1], np.diff(owned)) + contexts["start"]
    return bool((contexts["start"][owned[:-1]] == 0).all() and (np.diff(begins, append=offsets[-1]) >= 0).all())


def _created_by() -> str:
    version = importlib.metadata.version("aworld-slurm")
    return f"aworld-slurm {version}, h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
