"""Lossless deltas between the bytes of two files of weights.

A training step moves few bfloat16 values, most of them by one unit in the last place. A file is compared in words of 16
bits, block by block. The record of a block holds, for each word that changed, the gap since the one before (uint32) and
the difference (int16, in zigzag form). Each is stored byte plane by byte plane: zstd removes the high planes, which are
zeros.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import zstandard

BLOCK = 16 << 20  # bytes of a file that a record covers
LEVEL = 3  # of zstd
LENGTH = 4  # bytes before each record, which hold its length
GAP, DIFFERENCE = 4, 2  # bytes of each


class DamagedError(ValueError):
    """The record is none of this block."""


def encode(old: np.ndarray, new: np.ndarray) -> list[bytes]:
    """The records, each behind its length, that turn `old` into `new`: uint8 arrays of one even length."""

    def record(begin: int) -> bytes:
        packed = zstandard.compress(_changes(old[begin : begin + BLOCK], new[begin : begin + BLOCK]), LEVEL)
        return len(packed).to_bytes(LENGTH, "little") + packed

    with ThreadPoolExecutor() as threads:
        return list(threads.map(record, range(0, len(new), BLOCK)))


def read(file: BinaryIO) -> bytes:
    """The next record of a file of deltas."""
    return file.read(int.from_bytes(file.read(LENGTH), "little"))


def apply(record: bytes, block: np.ndarray) -> None:
    """Turn the old block into the new one, in place: uint8, at most BLOCK bytes.

    Raises:
        DamagedError: the record is none of this block.
    """
    words = block.view("<u2")
    try:
        if zstandard.frame_content_size(record) > len(words) * (GAP + DIFFERENCE):  # it would fill the memory
            raise DamagedError("more changes than words")
        planes = np.frombuffer(zstandard.decompress(record), np.uint8).reshape(GAP + DIFFERENCE, -1)
    except (zstandard.ZstdError, ValueError) as error:
        raise DamagedError(str(error)) from None
    at = np.cumsum(_joined(planes[:GAP]), dtype=np.int64)
    if len(at) and at[-1] >= len(words):
        raise DamagedError("a change beyond the end of the block")
    zigzag = _joined(planes[GAP:]).astype(np.uint16)
    words[at] += (zigzag >> 1) ^ -(zigzag & 1)


def _changes(old: np.ndarray, new: np.ndarray) -> bytes:
    before, after = old.view("<u2"), new.view("<u2")
    at = np.flatnonzero(before != after)
    steps = (after[at] - before[at]).view(np.int16)
    zigzag = (steps << 1) ^ (steps >> 15)  # so that small differences of either sign have a high byte of 0
    return b"".join([*_planes(np.diff(at, prepend=0), GAP), *_planes(zigzag, DIFFERENCE)])


def _planes(values: np.ndarray, count: int) -> list[bytes]:
    """The lowest byte of each value, then the second, …"""
    return [(values >> 8 * plane).astype(np.uint8).tobytes() for plane in range(count)]


def _joined(planes: np.ndarray) -> np.ndarray:
    values = np.zeros(planes.shape[1], np.uint32)
    for plane, column in enumerate(planes):
        values |= column.astype(np.uint32) << 8 * plane
    return values
