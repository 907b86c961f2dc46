"""The frames of a journal: one record each, whose head is read without its tokens and its text.

A frame of format 2, lengths and checksums as little-endian uint32:

    MAGIC, bytes of the head, bytes of the text, CRC-32 of the text, CRC-32 of these three numbers and the head
    head: a Record (msgpack)
    token ids (int32 [n]), mask (uint8 [n]), log-probabilities (float32 [n]): the bytes that trajectories.h5 will hold
    text: the Episode without these three (msgpack)

The head holds n and the checksum of each context. A frame of format 1, which is still read, is an Episode in msgpack
behind its magic, its length and the CRC-32 of both. Each frame tells its format, so that a journal may hold both.
"""

import os
import struct
import zlib
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from aworld.errors import InfrastructureError
from aworld.trajectories.episode import Episode, storable
from aworld.trajectories.record import Record, checksum, record_of

MAGIC = b"\xf1AWJ\x02\r\n\x1a"  # not valid UTF-8, so that no text looks like a frame
MAGIC_1 = b"\xf1AWJ\x01\r\n\x1a"
LOOK = 4096  # bytes read at once for a head; few are longer
TOKEN_BYTES = 9  # of a token id, its mask and its log-probability
_FRAME, _CHECKED = struct.Struct("<8s4I"), struct.Struct("<3I")
_FRAME_1, _CHECKED_1 = struct.Struct("<8s2I"), struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_episode_decoder = msgspec.msgpack.Decoder(Episode)

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A record in a journal, as it is listed.

    Attributes:
        at, end: where its frame begins in the file, and the byte behind it.
        body: where its tokens begin; of a frame of format 1, its payload.
        text_crc32: of its text; None: the frame is of format 1.
    """

    path: Path
    at: int
    body: int
    end: int
    text_crc32: int | None
    record: Record


def arrays_of(episode: Episode) -> Arrays:
    """Token ids (int32), mask (uint8) and log-probabilities (float32) of an episode, [n] each, little-endian."""
    e = episode
    return np.array(e.token_ids, "<i4"), np.array(e.mask, "u1"), np.array(e.logprobs, "<f4")


def encode(episode: Episode) -> bytes:
    """The frame of an episode that is storable."""
    arrays = arrays_of(episode)
    text = _packed(replace(episode, token_ids=[], mask=[], logprobs=[]))
    head = _packed(record_of(episode, *arrays))
    checked = _CHECKED.pack(len(head), len(text), zlib.crc32(text))
    frame = MAGIC + checked + zlib.crc32(head, zlib.crc32(checked)).to_bytes(4, "little")
    return b"".join([frame, head, *(array.tobytes() for array in arrays), text])


def entry_at(fd: int, path: Path, at: int, size: int) -> Entry | None:
    """The entry whose frame begins at byte `at` of a file of `size` bytes; None: there is none, it is torn or damaged.

    Of a frame of format 2 the head alone is read and checked, of one of format 1 all.

    Raises:
        InfrastructureError: it is of another version.
    """
    start = os.pread(fd, LOOK, at)
    try:
        if start.startswith(MAGIC):
            return _entry(fd, path, at, size, start)
        return _entry_1(fd, path, at, size, start) if start.startswith(MAGIC_1) else None
    except msgspec.MsgspecError as error:
        raise InfrastructureError(f"{path}: the record at byte {at} is of another version ({error})") from error


def read_into(entry: Entry, arrays: Arrays) -> bool:
    """Read the tokens of a record into these arrays, and check them; returns whether they are sound.

    Args:
        arrays: as `arrays_of`, of the record's length. They are filled in place.
    """
    if entry.text_crc32 is None:
        if episode := read_episode(entry):
            for array, values in zip(arrays, arrays_of(episode), strict=True):
                array[:] = values
        return episode is not None
    with open(entry.path, "rb", buffering=0) as file:
        file.seek(entry.body)
        if not all(_fill(file, array) for array in arrays):
            return False
    spans = zip(entry.record.spans, entry.record.ends, strict=True)
    return all(checksum(*(array[span.start : end] for array in arrays)) == span.crc32 for span, end in spans)


def _fill(file: FileIO, array: np.ndarray) -> bool:
    """Read until the array is full; returns False at the end of the file. A read may come back short."""
    left = array.data.cast("B") if len(array) else memoryview(b"")
    while left:
        count = file.readinto(left)
        if not count:
            return False
        left = left[count:]
    return True


def read_arrays(entry: Entry) -> Arrays | None:
    """Token ids, mask and log-probabilities of a record, as `arrays_of`; None: they are damaged."""
    n = entry.record.tokens
    arrays = np.empty(n, "<i4"), np.empty(n, "u1"), np.empty(n, "<f4")
    return arrays if read_into(entry, arrays) else None


def read_episode(entry: Entry) -> Episode | None:
    """The episode of a record; None: it is damaged.

    Raises:
        InfrastructureError: it is of another version.
    """
    if entry.text_crc32 is None:
        return storable(_decoded(entry, _read(entry.path, entry.body, entry.end - entry.body)))
    arrays = read_arrays(entry)
    episode = read_text(entry) if arrays else None
    if arrays is None or episode is None:
        return None
    tokens, mask, logprobs = (array.tolist() for array in arrays)
    return replace(episode, token_ids=tokens, mask=mask, logprobs=logprobs)


def read_text(entry: Entry) -> Episode | None:
    """The episode of a record without its tokens, which are not read; None: its text is damaged.

    Raises:
        InfrastructureError: as `read_episode`.
    """
    if entry.text_crc32 is None:
        episode = read_episode(entry)
        return replace(episode, token_ids=[], mask=[], logprobs=[]) if episode else None
    begin = entry.body + TOKEN_BYTES * entry.record.tokens
    text = _read(entry.path, begin, entry.end - begin)
    return _decoded(entry, text) if zlib.crc32(text) == entry.text_crc32 else None


def _decoded(entry: Entry, text: bytes) -> Episode:
    try:
        return _episode_decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise InfrastructureError(
            f"{entry.path}: the record at byte {entry.at} is of another version ({error})"
        ) from error


def _entry(fd: int, path: Path, at: int, size: int, start: bytes) -> Entry | None:
    if len(start) < _FRAME.size:
        return None
    _, head_bytes, text_bytes, text_crc32, crc32 = _FRAME.unpack_from(start)
    body = at + _FRAME.size + head_bytes
    if body > size:
        return None
    head = start[_FRAME.size : _FRAME.size + head_bytes]
    head += os.pread(fd, head_bytes - len(head), at + len(start)) if len(head) < head_bytes else b""
    if zlib.crc32(head, zlib.crc32(start[8 : 8 + _CHECKED.size])) != crc32:
        return None
    record = _record_decoder.decode(head)
    end = body + TOKEN_BYTES * record.tokens + text_bytes
    return Entry(path, at, body, end, text_crc32, record) if end <= size else None


def _entry_1(fd: int, path: Path, at: int, size: int, start: bytes) -> Entry | None:
    if len(start) < _FRAME_1.size:
        return None
    _, length, crc32 = _FRAME_1.unpack_from(start)
    body = at + _FRAME_1.size
    if body + length > size:
        return None
    payload = os.pread(fd, length, body)
    if zlib.crc32(payload, zlib.crc32(_CHECKED_1.pack(length))) != crc32:
        return None
    episode = storable(_episode_decoder.decode(payload))
    return Entry(path, at, body, body + length, None, record_of(episode, *arrays_of(episode)))


def _read(path: Path, at: int, length: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(length)


def _packed(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError):  # JSON that the policy wrote may hold what msgpack cannot
        return _encoder.encode(_encodable(asdict(value)))


def _encodable(value: Any) -> Any:
    """The value with lone surrogates replaced by `?` and integers beyond 64 bits as text."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {_encodable(k): _encodable(v) for k, v in value.items()}
        case list() | tuple():
            return [_encodable(v) for v in value]
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
        case _:
            return value
