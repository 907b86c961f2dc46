"""Units of work, claimed on a shared file system by an exclusive create.

A claim is a file with its owner's name, renewed by touching it. One that is not renewed for `lease_seconds` is free
again; one that is released has a file beside it, and is free at once. To take claim 1 over is to create claim 2, again
exclusively, so that one of several takers wins. Claim files are never removed or replaced. Any worker may join, die or
return; a worker that returns has its own claims back at once.

A thousand workers may hold claims. A scan of the folder tells their names, and another's claim is looked at only when
its lease may have ended: to claim a unit costs as many file operations beside a thousand workers as beside ten.
"""

import glob
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import inf
from pathlib import Path

from aworld.publish import publish_text
from aworld.rollout.spread import in_play

DONE = ".done"
ONE_REWARD = ".one-reward"  # in the place of DONE, so that one name tells both
CLAIM = ".claim"
RELEASED = ".released"  # in the place of CLAIM, in the name of a file beside it
LONGEST_KEY = 200  # bytes; file names end at 255


@dataclass(frozen=True)
class Unit:
    """A task and a block of its attempts, played by one worker so that they share a prefix cache."""

    task_id: str
    attempts: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        """The unit's name as a file name; distinct units have distinct keys."""
        safe = re.sub(r"[^A-Za-z0-9-]", lambda m: f"_{ord(m[0]):x}_", self.task_id)
        key = f"{safe}.{'-'.join(map(str, self.attempts))}"
        if len(key) <= LONGEST_KEY:
            return key
        return f"{key[: LONGEST_KEY - 65]}_{hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True)
class Marks:
    """The marks in a folder of claims, by the keys of the units.

    Attributes:
        newest: the number of each unit's newest claim.
        released: the numbers of a unit's claims that are released.
        done: the units that are done.
        of_one_reward: the done units whose attempts all have one reward, where the workload counts that.
    """

    newest: dict[str, int] = field(default_factory=dict)
    released: dict[str, set[int]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    of_one_reward: set[str] = field(default_factory=set)


@dataclass
class Claims:
    """The claims on the units of one workload, as `owner` sees them. At any time one process goes by that name.

    Attributes:
        enough: number of units with spread that end the workload; None: every unit is played.
    """

    folder: Path
    owner: str
    lease_seconds: float
    enough: int | None = None
    _held: dict[str, int] = field(default_factory=dict)  # key: number of our claim
    _foreign: set[str] = field(default_factory=set)  # names of claims known to be another's
    _scanned: float = -inf  # when the last scan for free units began, by this process's clock
    _seen: dict[str, int] = field(default_factory=dict)  # the newest claims that it saw
    _lasts: dict[str, float] = field(default_factory=dict)  # key: until when, at least, by the same clock

    def claim(self, units: list[Unit]) -> Unit | None:
        """Claim the first unit in play that is free, or None. One directory scan, however many units there are."""
        for unit, number in self._free(units):
            if self._create(unit, number) and not (number > 1 and self._is_done(unit)):  # done since our scan?
                self._held[unit.key] = number
                return unit
        return None

    def has_free(self, units: list[Unit]) -> bool:
        """Whether one of the units in play could be claimed. One directory scan."""
        return any(True for _ in self._free(units))

    def marks(self) -> Marks:
        """The marks of all units. One directory scan."""
        marks = Marks()
        with_spread: set[str] = set()
        if not self.folder.is_dir():
            return marks
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(DONE):
                    with_spread.add(entry.name.removesuffix(DONE))
                elif entry.name.endswith(ONE_REWARD):
                    marks.done.add(entry.name.removesuffix(ONE_REWARD))
                    marks.of_one_reward.add(entry.name.removesuffix(ONE_REWARD))
                elif entry.name.endswith(CLAIM):
                    key, _, digits = entry.name.removesuffix(CLAIM).rpartition(".")
                    marks.newest[key] = max(marks.newest.get(key, 0), int(digits))
                elif entry.name.endswith(RELEASED):
                    key, _, digits = entry.name.removesuffix(RELEASED).rpartition(".")
                    marks.released.setdefault(key, set()).add(int(digits))
        marks.done.update(with_spread)
        marks.of_one_reward.difference_update(with_spread)  # two owners saw other rewards: no unit enters play by that
        return marks

    def in_play(self, units: list[Unit], marks: Marks) -> list[Unit]:
        """The units of the workload that are to be played, or were, as far as these marks tell."""
        if self.enough is None:
            return units
        return list(in_play(units, self.enough, marks.of_one_reward, marks.newest))

    def _free(self, units: list[Unit]) -> Iterator[tuple[Unit, int]]:
        """The units in play that are free, each with the number of its next claim."""
        self.folder.mkdir(parents=True, exist_ok=True)
        began, marks = time.monotonic(), self.marks()
        new = {key for key, number in marks.newest.items() if self._seen.get(key) != number}
        self._lasts |= dict.fromkeys(new, self._scanned + self.lease_seconds)  # made since the last scan
        self._scanned, self._seen = began, marks.newest
        now = cache(self._now)
        for unit in self.in_play(units, marks):
            if unit.key in marks.done or unit.key in self._held:
                continue
            number = marks.newest.get(unit.key, 0)
            is_free = not number or number in marks.released.get(unit.key, ())
            if is_free or (began >= self._lasts[unit.key] and self._is_free(unit, number, now)):
                yield unit, number + 1

    def renew(self, unit: Unit) -> bool:
        """Renew the claim on a unit. False: another worker took the unit over after our lease, or its earlier owner
        finished it."""
        number = self._held[unit.key]
        os.utime(self._path(unit, number))
        if self._path(unit, number + 1).exists() or self._is_done(unit):
            del self._held[unit.key]
            return False
        return True

    def was_anothers(self, unit: Unit) -> bool:
        """Whether another worker held the unit before us, and may have recorded some of its attempts."""
        before = self._held[unit.key] - 1
        return before > 0 and self._path(unit, before).read_text() != self.owner

    def release(self, unit: Unit) -> None:
        """Give the unit back undone; it is free at once."""
        if number := self._held.pop(unit.key, 0):  # else another has it by now
            with suppress(OSError):  # as of a full disk: then it is free after its lease
                self._path(unit, number).with_suffix(RELEASED).touch()

    def mark_done(self, unit: Unit, has_spread: bool = True) -> None:
        """Mark the unit done; its records are durable before this. One that `has_spread` counts as one of `enough`."""
        suffix = DONE if has_spread or self.enough is None else ONE_REWARD
        publish_text(self.folder / (unit.key + suffix), self.owner)
        self._held.pop(unit.key, None)

    def reopen(self, unit: Unit) -> None:
        """Take back that the unit is done: it is free at once."""
        for path in self.folder.glob(f"{glob.escape(unit.key)}.*{CLAIM}"):
            path.with_suffix(RELEASED).touch()
        for suffix in (DONE, ONE_REWARD):
            (self.folder / (unit.key + suffix)).unlink(missing_ok=True)

    def all_done(self, units: list[Unit]) -> bool:
        """Whether all units in play are done."""
        marks = self.marks()
        return all(unit.key in marks.done for unit in self.in_play(units, marks))

    def _is_done(self, unit: Unit) -> bool:
        return any((self.folder / (unit.key + suffix)).exists() for suffix in (DONE, ONE_REWARD))

    def _path(self, unit: Unit, number: int) -> Path:
        return self.folder / f"{unit.key}.{number}{CLAIM}"

    def _create(self, unit: Unit, number: int) -> bool:
        try:
            fd = os.open(self._path(unit, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(fd, "w") as f:
            f.write(self.owner)
        return True

    def _is_free(self, unit: Unit, number: int, now: Callable[[], float]) -> bool:
        """Whether a claim has expired or is our own from an earlier life."""
        path = self._path(unit, number)
        if path.name not in self._foreign:
            owner = path.read_text()
            if owner == self.owner:
                return True
            if owner:  # else it is just being made
                self._foreign.add(path.name)
        left = path.stat().st_mtime + self.lease_seconds - now()
        self._lasts[unit.key] = self._scanned + left
        return left < 0

    def _now(self) -> float:
        """The file system's own clock; the nodes' clocks may differ from it and from each other."""
        probe = self.folder / f".clock-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()
