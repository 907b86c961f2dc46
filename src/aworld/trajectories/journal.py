"""The journal: an append-only, framed, checksummed file of episodes, one per worker.

A frame is `MAGIC`, the payload's length and CRC-32 (little-endian uint32 each), and the payload (msgpack). A record is
durable when `append` returns. A torn tail is cut when the journal is opened again, and nothing before it is lost; a
frame damaged in the middle is skipped and counted, and the good ones after it are still read.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aworld.errors import InfrastructureError
from aworld.rundir import fsync_dir
from aworld.trajectories.episode import Episode

MAGIC = b"\xf1AWJ\x01\r\n\x1a"  # not valid UTF-8, so that no text in a payload looks like a frame
_HEADER = struct.Struct("<8sII")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Episode)


@dataclass(frozen=True)
class Frame:
    """A good record and where it lies: bytes [start, end) of the file."""

    start: int
    end: int
    episode: Episode


class Journal:
    """A journal open for appending by one process.

    Raises:
        InfrastructureError: another process has it open.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise InfrastructureError(f"{path} is being written by another process; end that one first") from None
        end = max((frame.end for frame in frames(path.read_bytes())), default=0)
        os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        fsync_dir(path.parent)

    def append(self, episode: Episode) -> None:
        """Write one record; on return it is on disk. After a failed write the file is as it was before."""
        payload = _encoder.encode(episode)
        frame = _HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload
        before = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, frame)
            if written != len(frame):
                raise OSError(f"wrote {written} of {len(frame)} bytes")
            os.fdatasync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, before)
            raise InfrastructureError(f"{self.path}: {error}; is the disk full?") from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Iterator[Episode]:
    """Every finished record of a journal, in the order of writing."""
    for frame in frames(path.read_bytes()):
        yield frame.episode


def damaged_bytes(path: Path) -> int:
    """Bytes in the middle of a journal that belong to no good record; a torn tail does not count."""
    good = list(frames(path.read_bytes()))
    return max((f.end for f in good), default=0) - sum(f.end - f.start for f in good)


def frames(data: bytes) -> Iterator[Frame]:
    """The good frames in a journal's bytes."""
    at = data.find(MAGIC)
    while at != -1:
        end = _frame_end(data, at)
        if end is None:
            at = data.find(MAGIC, at + 1)
            continue
        yield Frame(at, end, _decoder.decode(data[at + _HEADER.size : end]))
        at = data.find(MAGIC, end)


def _frame_end(data: bytes, at: int) -> int | None:
    """Where the frame at `at` ends, or None if it is torn or damaged."""
    if at + _HEADER.size > len(data):
        return None
    _, length, checksum = _HEADER.unpack_from(data, at)
    start = at + _HEADER.size
    if start + length > len(data) or zlib.crc32(data[start : start + length]) != checksum:
        return None
    return start + length
