"""The episodes of a workload under way, listed again and again: each look reads what was appended since the last."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from aworld.trajectories import journal
from aworld.trajectories.journal import Contents
from aworld.trajectories.record import Record


@dataclass
class Heads:
    """The records in the journals of a folder. Token ids and text are never read.

    Attributes:
        written: when each worker's journal last grew, in seconds since 1970, by the name of its file.
    """

    folder: Path
    written: dict[str, float] = field(default_factory=dict)
    _seen: dict[Path, Contents] = field(default_factory=dict)

    def read(self) -> list[Record]:
        """The records, one for each identity, ordered by identity. A journal that did not grow costs one stat."""
        for path in sorted(self.folder.glob("*.journal")):
            before, status = self._seen.get(path), path.stat()
            self.written[path.stem] = status.st_mtime
            if before is None or status.st_size != before.end:
                self._seen[path] = journal.list_entries(path, before)
        entries = (entry for contents in self._seen.values() for entry in contents.entries)
        return [candidates[0].record for candidates in journal.by_identity(entries)]

    @property
    def episodes(self) -> dict[str, int]:
        """The number of records in each worker's journal, by the name of its file."""
        return {path.stem: len(contents.entries) for path, contents in self._seen.items()}

    def silent(self, worker: str) -> float | None:
        """Seconds since this worker recorded an episode; None: it has none yet."""
        return max(0.0, time.time() - self.written[worker]) if self.episodes.get(worker) else None
