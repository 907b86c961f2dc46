"""The rounds and evaluations that a tracker has to write, in order, and how many of them it has written.

The list is on disk before an entry is written, so an entry keeps its place and its time whoever is killed when. Only
folders that are not on the list are looked at.
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aworld.errors import InfrastructureError
from aworld.locks import try_to_hold
from aworld.publish import publish_json
from aworld.rundir import RunDir, numbered
from aworld.trackers.tracker import FOLDER


@dataclass(frozen=True)
class Item:
    """A finished round, or the finished evaluation of a policy.

    Attributes:
        benchmark: the name of the evaluation; empty: it is a round.
        number: of the round, or the version of the policy.
        time: as that of its Entry.
    """

    benchmark: str
    number: int
    time: int


@dataclass
class State:
    """What `trackers/NAME.json` holds.

    Attributes:
        key: of the run in the tracker.
        written: how many of `items` are written, from the first one on.
    """

    key: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    written: int = 0
    items: list[Item] = field(default_factory=list)

    @property
    def left(self) -> list[Item]:
        return self.items[self.written :]

    def add_new(self, run: RunDir, newest: int) -> bool:
        """Add what has finished since; returns whether there was any.

        Looks into the folders of rounds and evaluations that are not on the list.

        Args:
            newest: the newest version of the policy; -1: there is none.
        """
        known = {(item.benchmark, item.number) for item in self.items}
        before = len(self.items)
        last = max((item.number for item in self.items if not item.benchmark), default=-1)
        for number in range(last + 1, newest + 1):
            self._add("", number, run.round(number) / "metrics.json")
        for folder in sorted((run.root / "evals").glob("*")):
            for version in numbered(folder):
                if (folder.name, int(version.name)) not in known:
                    self._add(folder.name, int(version.name), version / "timing.json")
        return len(self.items) > before

    def _add(self, benchmark: str, number: int, end: Path) -> None:
        """Add an item unless it has not ended, or its folder was removed."""
        if end.is_file():
            after = self.items[-1].time + 1 if self.items else 0
            self.items.append(Item(benchmark, number, max(after, int(end.stat().st_mtime))))


def path_of(run: RunDir, name: str) -> Path:
    return run.root / FOLDER / f"{name}.json"


def lock_of(run: RunDir, name: str) -> Path:
    """The lock that a process holds while it writes to the tracker."""
    return run.root / FOLDER / f"{name}.lock"


def load(run: RunDir, name: str) -> State:
    """The state of a tracker; a new one, where it has written nothing yet.

    Raises:
        InfrastructureError: its file is damaged.
    """
    path = path_of(run, name)
    if not path.is_file():
        return State()
    try:
        values = json.loads(path.read_text())
        return State(values["key"], values["written"], [Item(*row) for row in values["items"]])
    except (ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(f"{path} is damaged (mend: aworld track {run.root} {name} --anew)") from error


def save(run: RunDir, name: str, state: State) -> None:
    values: dict[str, Any] = asdict(state)
    rows = [(item.benchmark, item.number, item.time) for item in state.items]
    publish_json(path_of(run, name), values | {"items": rows})


def is_behind(run: RunDir, name: str, newest: int) -> bool:
    """Whether the tracker has something left to write, or its file is damaged: then its writer says so.

    Args:
        newest: as that of `State.add_new`.
    """
    try:
        state = load(run, name)
    except InfrastructureError:
        return True
    return bool(state.add_new(run, newest) or state.left)


def note_failure(run: RunDir, name: str, reason: str) -> None:
    """Keep the reason why a tracker could not write, for `aworld status`; empty: it could."""
    path = path_of(run, f"{name}.failed")
    if reason:
        publish_json(path, {"reason": reason, "time": time.time()})
    else:
        path.unlink(missing_ok=True)


def forget(run: RunDir, name: str) -> None:
    """Remove all that a tracker has here, so that it begins anew, under another key.

    Raises:
        InfrastructureError: another process is writing to it.
    """
    with try_to_hold(lock_of(run, name)) as is_ours:
        if not is_ours:
            raise InfrastructureError(f"tracker {name} is being written; try again in a minute")
        for path in (path_of(run, name), path_of(run, f"{name}.failed")):
            path.unlink(missing_ok=True)
        shutil.rmtree(run.root / FOLDER / name, ignore_errors=True)


def failures(names: Iterable[str], run: RunDir) -> list[str]:
    """A line for each of these trackers whose last try failed."""
    paths = {name: path_of(run, f"{name}.failed") for name in names}
    return [not_up_to_date(run, name, _reason(path)) for name, path in paths.items() if path.is_file()]


def _reason(path: Path) -> str:
    """The reason that `note_failure` kept. A damaged file stops no status."""
    try:
        return str(json.loads(path.read_text())["reason"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return f"its reason in {path} cannot be read"


def not_up_to_date(run: RunDir, name: str, reason: str) -> str:
    return f"tracker {name} is not up to date: {reason}; try again with: aworld track {run.root}"
