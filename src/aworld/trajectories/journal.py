"""The journal: an append-only, framed, checksummed file of episodes, one per worker.

The file begins with `HEADER`; then frames: `MAGIC`, the payload's length and a CRC-32 of length and payload
(little-endian uint32 each), and the payload (msgpack). A record is durable when `append` returns. A torn tail is cut
when the journal is opened again, and nothing before it is lost. A frame damaged in the middle is skipped and counted;
the good frames after it are still read.
"""

import fcntl
import os
import struct
import sys
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from aworld.errors import InfrastructureError
from aworld.locks import acquire
from aworld.publish import fsync_dir
from aworld.trajectories.episode import Episode

HEADER = b"\x89AWorld journal, format 1\r\n\x1a\n"
MAGIC = b"\xf1AWJ\x01\r\n\x1a"  # not valid UTF-8, so that no text in a payload looks like a frame
_FRAME = struct.Struct("<8sII")
_LENGTH = struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Episode)


@dataclass(frozen=True)
class Contents:
    """The contents of a journal.

    Attributes:
        episodes: the good records, in the order of writing.
        end: byte offset behind the last good record; a torn tail may follow.
        damaged: number of bytes before `end` that belong to no good record.
    """

    episodes: list[Episode]
    end: int
    damaged: int


class Journal:
    """A journal open for appending by one process. If the file system has no locks, it is a new file beside `path`.

    Raises:
        InfrastructureError: another process has it open, or the file is no journal.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._fd = _open_alone(path)
        try:
            end = load(self.path).end
            os.ftruncate(self._fd, end)
            if not end:
                os.write(self._fd, HEADER)
            os.fsync(self._fd)
            fsync_dir(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, episode: Episode) -> None:
        """Write one record; on return it is on disk. A failed write leaves the file as it was.

        Raises:
            InfrastructureError: the file could not be written.
        """
        payload = _encode(episode)
        frame = _FRAME.pack(MAGIC, len(payload), _checksum(payload)) + payload
        before = os.fstat(self._fd).st_size
        try:
            left = memoryview(frame)
            while left:  # a disk that is nearly full takes a part, and fails at the rest
                left = left[os.write(self._fd, left) :]
            os.fdatasync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, before)
            raise InfrastructureError(f"{self.path} cannot be written ({error}); make room on its disk") from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Iterator[Episode]:
    """The good records of a journal, in the order of writing, with a warning on stderr if bytes are damaged.

    Raises:
        InfrastructureError: the file is no journal of this format.
    """
    contents = load(path)
    if contents.damaged:
        print(f"warning: {path}: {contents.damaged} bytes are damaged; their episodes are lost", file=sys.stderr)
    return iter(contents.episodes)


def collect(folder: Path) -> list[Episode]:
    """The records of all journals in a folder, one for each identity, ordered by identity.

    Of several with one identity a finished one is taken before an infra_error, then the one of the first journal by
    name, then the one written first.
    """
    best: dict[tuple[int, str, int], Episode] = {}
    for path in sorted(folder.glob("*.journal")):
        for episode in read(path):
            other = best.get(episode.identity)
            if other is None or (other.status == "infra_error" != episode.status):
                best[episode.identity] = episode
    return [best[identity] for identity in sorted(best)]


def load(path: Path) -> Contents:
    """The contents of a journal. Another process may be writing it.

    Raises:
        InfrastructureError: the file is no journal of this format.
    """
    data = path.read_bytes()
    if HEADER.startswith(data):  # new, or torn while it was made
        return Contents([], 0, 0)
    episodes: list[Episode] = []
    good = end = len(HEADER) if data.startswith(HEADER) else 0
    at = data.find(MAGIC)
    while at != -1:
        payload = _payload(data, at)
        if payload is None:
            at = data.find(MAGIC, at + 1)
            continue
        try:
            episodes.append(_decoder.decode(payload))
        except msgspec.MsgspecError as error:
            raise InfrastructureError(f"{path}: the record at byte {at} is of another version ({error})") from error
        end = at + _FRAME.size + len(payload)
        good += end - at
        at = data.find(MAGIC, end)
    if not good:
        raise InfrastructureError(f"{path} is no journal of format 1; move it away")
    return Contents(episodes, end, end - good)


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


def _payload(data: bytes, at: int) -> memoryview | None:
    """The payload of the frame at byte `at`; None if the frame is torn or damaged."""
    start = at + _FRAME.size
    if start > len(data):
        return None
    _, length, checksum = _FRAME.unpack_from(data, at)
    payload = memoryview(data)[start : start + length]
    return payload if len(payload) == length and _checksum(payload) == checksum else None


def _checksum(payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(_LENGTH.pack(len(payload))))


def _encode(episode: Episode) -> bytes:
    try:
        return _encoder.encode(episode)
    except (OverflowError, UnicodeEncodeError):  # JSON that the policy wrote may hold what msgpack cannot
        return _encoder.encode(_storable(asdict(episode)))


def _storable(value: Any) -> Any:
    """The value with lone surrogates replaced by `?` and integers beyond 64 bits as text."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {_storable(k): _storable(v) for k, v in value.items()}
        case list():
            return [_storable(v) for v in value]
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
        case _:
            return value
