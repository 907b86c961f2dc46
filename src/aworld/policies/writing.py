"""A rank's share of each policy: written whole or as deltas, with checksums on the way to the disk."""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aworld.policies import delta
from aworld.policies.folder import SUFFIX
from aworld.publish import Sums

MOST = 0.5  # of a file: a delta beyond that is not worth reading, and the file is written whole


@dataclass
class Written:
    """What was written.

    Attributes:
        files: the files on disk, by name: `size` and `crc32`.
        made: the files that deltas among them make, as `Deltas.files`.
    """

    files: dict[str, dict[str, int]] = field(default_factory=dict)
    made: dict[str, dict[str, int]] = field(default_factory=dict)


class Writer:
    """Writes files of weights, and keeps the values of the last version if later ones may be deltas to it.

    Attributes:
        version: of the policy that was written last.
    """

    def __init__(self, keeps: bool = False):
        self.version: int | None = None
        self._keeps = keeps
        self._last: dict[str, tuple[np.ndarray, int]] = {}  # the bytes of each file, and their CRC-32

    def write(
        self, folder: Path, version: int, files: Iterable[tuple[str, np.ndarray]], base: int | None = None
    ) -> Written:
        """Write files to a policy's folder.

        Args:
            files: name and bytes (uint8) of each. One is taken at a time.
            base: the version that files may be deltas to; None, or not the last one: all are written whole.
        """
        if base is None or base != self.version:
            self._last.clear()
        written = Written()
        for name, data in files:
            crc32 = zlib.crc32(data.data)
            if records := self._records(name, data):
                written.files[name + SUFFIX] = write_file(folder / (name + SUFFIX), records)
                written.made[name] = {"size": len(data), "crc32": crc32, "base_crc32": self._last[name][1]}
            else:
                blocks = (data[at : at + delta.BLOCK].data for at in range(0, len(data), delta.BLOCK))
                written.files[name] = write_file(folder / name, blocks)
            if self._keeps:
                self._last[name] = data, crc32
        self.version = version
        return written

    def recall(self, version: int, files: Iterable[tuple[str, np.ndarray]], published: Sums) -> None:
        """Keep the files of a version that is there already, so that the next one may be deltas to it.

        Args:
            files: as in `write`; a file with other bytes than the published one is not kept.
            published: the `contents` of the version.
        """
        self._last.clear()
        for name, data in files:
            crc32 = zlib.crc32(data.data)
            if self._keeps and published.get(name) == {"size": len(data), "crc32": crc32}:
                self._last[name] = data, crc32
        self.version = version

    def _records(self, name: str, data: np.ndarray) -> list[bytes]:
        """The delta to the last version of a file; empty where there is none, or where it is too large."""
        last, _ = self._last.get(name, (None, 0))
        if last is None or len(last) != len(data) or len(data) % 2:
            return []
        records = delta.encode(last, data)
        return records if sum(map(len, records)) <= MOST * len(data) else []


def write_file(path: Path, pieces: Iterable[bytes | memoryview]) -> dict[str, int]:
    """Write a file and make it durable; returns its `size` and `crc32`."""
    size = crc32 = 0
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
            size, crc32 = size + len(piece), zlib.crc32(piece, crc32)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "crc32": crc32}
