"""Units of work, claimed on a shared file system by an exclusive create.

A claim is a file with its owner's name, renewed by touching it; one not renewed for `lease_seconds` is free again.
Any worker may join, die or return: the claims of a worker that comes back under its name are its own at once.
"""

import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from aworld.rundir import publish_text

DONE = ".done"
CLAIM = ".claim"


@dataclass(frozen=True)
class Unit:
    """A task and a block of its attempts, played by one worker so that they share a prefix cache."""

    task_id: str
    attempts: tuple[int, ...]

    @property
    def key(self) -> str:
        """The unit's name as a file name; distinct units have distinct keys."""
        safe = re.sub(r"[^A-Za-z0-9-]", lambda m: f"_{ord(m[0]):x}_", self.task_id)
        return f"{safe}.{self.attempts[0]}-{self.attempts[-1]}"


@dataclass
class Claims:
    """The claims on the units of one workload, as `owner` sees them."""

    folder: Path
    owner: str
    lease_seconds: float
    _held: set[str] = field(default_factory=set)

    def claim(self, units: list[Unit]) -> Unit | None:
        """Claim the first unit that is free, or None. One directory scan, however many units there are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with os.scandir(self.folder) as entries:
            names = {entry.name for entry in entries}
        now: float | None = None
        for unit in units:
            if unit.key + DONE in names or unit.key in self._held:
                continue
            path = self.folder / (unit.key + CLAIM)
            if path.name in names:
                now = self._now() if now is None else now
                if not self._release_stale(path, now):
                    continue
            if self._create(path):
                self._held.add(unit.key)
                return unit
        return None

    def renew(self, unit: Unit) -> None:
        """Say that the unit is still being worked on."""
        (self.folder / (unit.key + CLAIM)).touch()

    def done(self, unit: Unit) -> None:
        """Mark the unit done; its records are durable before this."""
        publish_text(self.folder / (unit.key + DONE), self.owner)
        self._held.discard(unit.key)

    def all_done(self, units: list[Unit]) -> bool:
        names = self._done_names()
        return all(unit.key + DONE in names for unit in units)

    def count_done(self) -> int:
        return len(self._done_names())

    def _done_names(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries if entry.name.endswith(DONE) and not entry.name.startswith(".")}

    def _create(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(fd, "w") as f:
            f.write(self.owner)
        return True

    def _release_stale(self, path: Path, now: float) -> bool:
        """Move aside a claim that has expired or is our own from an earlier life; of several takers one succeeds."""
        try:
            expired = path.stat().st_mtime + self.lease_seconds < now
            if not expired and path.read_text() != self.owner:
                return False
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            path.rename(aside)
        except FileNotFoundError:  # another taker was faster
            return False
        try:
            # Between our look and our rename another taker may have put a fresh claim there: give that one back.
            if expired and aside.stat().st_mtime + self.lease_seconds >= now:
                os.link(aside, path)
                return False
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        return True

    def _now(self) -> float:
        """The file system's own clock; the nodes' clocks may differ from it and from each other."""
        probe = self.folder / f".clock-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()
