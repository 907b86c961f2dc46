"""The journal: an append-only, framed, checksummed file of episodes, one per worker.

The file begins with `HEADER`; then frames (`frames.py`). A record is durable when `append` returns. A torn tail is cut
when the journal is opened again, and nothing before it is lost. A frame damaged in the middle is skipped and counted;
the good frames after it are still read.

To list a journal is to read its heads alone. A frame whose head is sound and whose tokens or text are damaged is still
listed; a reader of the whole record finds the damage. The gather strikes such a frame out: from then on no list shows
it, and the episode is played again.
"""

import fcntl
import os
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.locks import acquire
from aworld.publish import fsync_dir
from aworld.trajectories import frames
from aworld.trajectories.episode import Episode, storable
from aworld.trajectories.frames import Entry, read_episode, read_text
from aworld.trajectories.record import Record

HEADER = b"\x89AWorld journal, format 2\r\n\x1a\n"
HEADERS = (HEADER, HEADER.replace(b"2", b"1"))
PIECE = 1 << 20  # bytes read at once in search of a frame


@dataclass(frozen=True)
class Contents:
    """The list of a journal.

    Attributes:
        entries: the records, in the order of writing.
        end: byte offset behind the last one; a torn tail may follow.
        damaged: number of bytes before `end` that belong to none.
    """

    entries: list[Entry]
    end: int
    damaged: int


class Journal:
    """A journal open for appending by one process, also from several of its threads. If the file system has no locks,
    it is a new file beside `path`.

    Raises:
        InfrastructureError: another process has it open, or the file is no journal.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._in_use = threading.Lock()  # it is closed once a thread has ended its record
        self.path, fd = _open_alone(path)
        self._fd: int | None = fd  # None: it is closed
        try:
            end = _sound_end(self.path)
            os.ftruncate(fd, end)
            if not end:
                os.write(fd, HEADER)
            os.fsync(fd)
            fsync_dir(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, episode: Episode) -> Episode:
        """Write one record; on return it is on disk. A failed write leaves the file as it was.

        Returns:
            The episode as it was written: `storable`.

        Raises:
            InfrastructureError: the file could not be written.
        """
        episode = storable(episode)
        left = memoryview(frames.encode(episode))
        with self._in_use:
            if self._fd is None:
                raise InfrastructureError(f"{self.path} is closed")
            before = os.fstat(self._fd).st_size
            try:
                while left:  # a disk that is nearly full takes a part, and fails at the rest
                    left = left[os.write(self._fd, left) :]
                os.fdatasync(self._fd)
            except OSError as error:
                os.ftruncate(self._fd, before)
                raise InfrastructureError(f"{self.path} cannot be written ({error}); make room on its disk") from error
        return episode

    def close(self) -> None:
        with self._in_use:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_entries(path: Path, before: Contents | None = None) -> Contents:
    """The list of a journal. Another process may be writing it. Reads the heads of its frames alone.

    Args:
        before: an earlier list of this journal; then only what was appended since is read.

    Raises:
        InfrastructureError: the file is no journal, or a record is of another version.
    """
    with open(path, "rb", buffering=0) as file:
        fd, size = file.fileno(), os.fstat(file.fileno()).st_size
        start = os.pread(fd, len(HEADER), 0)
        if size <= len(HEADER) and any(header.startswith(start) for header in HEADERS):  # new, or torn while made
            return Contents([], 0, 0)
        if before is None or not 0 < before.end <= size:  # a last record that was not sound may have been cut
            before = Contents([], len(HEADER) if start in HEADERS else 0, 0)
        entries = [*before.entries]
        at = end = before.end
        good = end - before.damaged
        while at < size:
            entry = frames.entry_at(fd, path, at, size)
            if entry is None:
                at = _next_frame(fd, at + 1, size)
                continue
            entries.append(entry)
            good += entry.end - entry.at
            at = end = entry.end
    if not good:
        raise InfrastructureError(f"{path} is no journal; move it away")
    return Contents(entries, end, end - good)


def read(path: Path) -> Iterator[Episode]:
    """The good records of a journal, in the order of writing, with a warning on stderr if bytes are damaged.

    Raises:
        InfrastructureError: the file is no journal, or a record is of another version.
    """
    for entry in listed(path):
        if episode := _decoded(entry):
            yield episode


def records(folder: Path) -> list[Record]:
    """The records of all journals in a folder, one for each identity, ordered by identity. Reads heads alone."""
    return [candidates[0].record for candidates in by_identity(listed_in(folder))]


def collect(folder: Path) -> list[Episode]:
    """The episodes of all journals in a folder, one for each identity, ordered by identity."""
    return [episode for episode in map(first_sound, by_identity(listed_in(folder))) if episode]


def find(folder: Path, task_id: str, attempt: int) -> Episode | None:
    """The episode of this task and attempt in the journals of a folder; None: there is none. Decodes no other."""
    entries = [e for e in listed_in(folder) if (e.record.task_id, e.record.attempt) == (task_id, attempt)]
    return next(map(first_sound, by_identity(entries)), None)


def listed(path: Path) -> list[Entry]:
    """The entries of a journal, with a warning on stderr if bytes are damaged. Reads heads alone.

    Raises:
        InfrastructureError: as `list_entries`.
    """
    contents = list_entries(path)
    if contents.damaged:
        print(f"warning: {path}: {contents.damaged} bytes are damaged; their episodes are lost", file=sys.stderr)
    return contents.entries


def listed_in(folder: Path) -> list[Entry]:
    """The entries of all journals in a folder, as `listed`."""
    return [entry for path in sorted(folder.glob("*.journal")) for entry in listed(path)]


def by_identity(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries of each identity, ordered by identity. The first of each is the one to take.

    A finished episode is taken before an infra_error, then the one of the first journal by name, then the one written
    first.
    """
    ordered = sorted(entries, key=lambda e: (e.record.identity, e.record.status == "infra_error", e.path, e.at))
    return [list(group) for _, group in groupby(ordered, key=lambda e: e.record.identity)]


def first_sound(candidates: list[Entry]) -> Episode | None:
    """The episode of the first of these entries that is sound, with a warning of those before it; None: none is."""
    return next(filter(None, map(_decoded, candidates)), None)


def text(entry: Entry) -> Episode | None:
    """The episode of an entry without its tokens; None, with a warning on stderr: its text is damaged."""
    episode = read_text(entry)
    if episode is None:
        _warn_of(entry)
    return episode


def strike_out(entry: Entry) -> None:
    """Take a damaged record off its journal's list, durably, with a warning on stderr."""
    fd = os.open(entry.path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"\0", entry.at)
        os.fsync(fd)
    finally:
        os.close(fd)
    _warn_of(entry)


def strike_out_damaged(folder: Path) -> None:
    """Take every damaged record of a folder's journals off their lists. Reads and decodes all journals."""
    for entry in listed_in(folder):
        if read_episode(entry) is None:
            strike_out(entry)


def _decoded(entry: Entry) -> Episode | None:
    episode = read_episode(entry)
    if episode is None:
        _warn_of(entry)
    return episode


def _warn_of(entry: Entry) -> None:
    _, task_id, attempt = entry.record.identity
    print(
        f"warning: {entry.path}: {entry.end - entry.at} bytes are damaged; attempt {attempt} at {task_id} is lost",
        file=sys.stderr,
        flush=True,
    )


def _sound_end(path: Path) -> int:
    """The byte behind the last sound record. A node that failed may have left the last one long enough, but empty."""
    contents = list_entries(path)
    last = contents.entries[-1] if contents.entries else None
    return last.at if last and read_episode(last) is None else contents.end


def _next_frame(fd: int, at: int, size: int) -> int:
    """Where the next frame may begin, from byte `at` on; `size` if nowhere."""
    sign = frames.MAGIC[:4]  # that all formats share
    while at < size:
        piece = os.pread(fd, PIECE, at)
        found = piece.find(sign)
        if found != -1:
            return at + found
        if len(piece) < len(sign):
            break
        at += len(piece) - len(sign) + 1
    return size


def _open_alone(path: Path) -> tuple[Path, int]:
    """The path and file descriptor of a journal that this process alone writes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    lock = acquire(fd, fcntl.LOCK_EX)
    if lock == "acquired":
        return path, fd
    os.close(fd)
    if lock == "held":
        raise InfrastructureError(f"{path} is being written by another process; end that one first")
    own = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    return own, os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
