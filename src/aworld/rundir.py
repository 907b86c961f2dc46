"""The run directory: every path in it, and how far the work in it is."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from aworld import config as configuration
from aworld import plugins
from aworld.config import Config
from aworld.locks import is_held
from aworld.publish import MARK, append_json, is_complete, read_jsonl

HELD_OUT = "held-out"  # the name of evaluations on the run's own tasks
FINISHED = "finished.jsonl"  # beside numbered folders: the results of the finished ones
_WORKER = re.compile(r"(?P<kind>rollout|evaluate)(-(?P<name>.+))?-(?P<number>\d{4,})-\d+")  # its lock: `Stage.lock`


@dataclass(frozen=True)
class RunDir:
    """Paths of one run. Rounds and policy versions are numbered from 0; round r makes policy r."""

    root: Path

    @classmethod
    def of(cls, config: Config) -> "RunDir":
        return cls(Path(config.runs) / config.name)

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"

    @property
    def changes(self) -> Path:
        """Each change of `run.yaml` after the run began: when, after which round, the old value and the new."""
        return self.root / "changes.jsonl"

    @property
    def jobs(self) -> Path:
        """Every job that was submitted for the run."""
        return self.root / "jobs.jsonl"

    @property
    def base(self) -> Path:
        """The HF checkpoint that the cold start begins with."""
        return self.root / "base"

    @property
    def tasks(self) -> Path:
        return self.root / "tasks"

    @property
    def conversations(self) -> Path:
        """A copy of the conversations that the cold start learns from."""
        return self.root / "conversations"

    @property
    def own(self) -> Path:
        """Copies of the user's own files that the run loads, such as an algorithm."""
        return self.root / plugins.FOLDER

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def starts(self) -> Path:
        """A file per task of a stage: when and in which job it began."""
        return self.root / "starts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def caches(self) -> Path:
        """An archive per program of the code that it compiled, for nodes that have none yet."""
        return self.root / "caches"

    def lock(self, name: str) -> Path:
        """The lock that is held by the process that does this work, such as train."""
        return self.root / "locks" / f"{name}.lock"

    def is_worked_on(self) -> bool:
        """Whether a process holds one of the run's locks. Lists them; those of finished rounds and evaluations, of
        which a long run has thousands, are not opened."""
        over: dict[Path, dict[int, Any]] = {}
        for path in (self.root / "locks").glob("*.lock"):
            if worker := _WORKER.fullmatch(path.stem):
                name, number = worker["name"] or HELD_OUT, int(worker["number"])
                folder = (self.round(0) if worker["kind"] == "rollout" else self.evaluation(name, 0)).parent
                if folder not in over:
                    over[folder] = finished(folder)
                if number in over[folder]:
                    continue
            if is_held(path):
                return True
        return False

    def policy(self, version: int) -> Path:
        """The HF folder, weights and tokenizer, that vLLM can serve."""
        return self.root / "policies" / f"{version:04d}"

    def policies(self) -> list[int]:
        """The published versions, in order. Looks into each."""
        return [int(path.name) for path in numbered(self.root / "policies") if is_complete(path)]

    def newest_policy(self, up_to: float = inf) -> int:
        """The newest published version that is at most `up_to`; -1: there is none. Looks into that one, as a rule."""
        found = (int(path.name) for path in reversed(numbered(self.root / "policies")))
        return next((version for version in found if version <= up_to and is_complete(self.policy(version))), -1)

    def lacks(self, version: int) -> bool:
        """Whether a policy was removed, or damaged: it is not there, but a later one is."""
        return not is_complete(self.policy(version)) and self.newest_policy() > version

    def trained_round(self) -> int:
        """The newest round whose checkpoint is there; else 0, if policy 0 is there; else -1.

        Training goes on from there. Nothing needs the trajectories of that round or of earlier ones, unless an older
        policy is made anew.
        """
        names = (path.name for path in self.checkpoints.glob("round-*") if re.fullmatch(r"round-\d+", path.name))
        found = sorted((int(name.removeprefix("round-")) for name in names), reverse=True)
        complete = (number for number in found if is_complete(self.checkpoints / f"round-{number:04d}"))
        return next(complete, 0 if is_complete(self.policy(0)) else -1)

    def round(self, number: int) -> Path:
        return self.root / "rounds" / f"{number:04d}"

    def trajectories(self, number: int) -> Path:
        return self.round(number) / "trajectories.h5"

    def evaluation(self, name: str, version: int) -> Path:
        return self.root / "evals" / name / f"{version:04d}"

    def benchmark(self, name: str) -> Path:
        """The configuration of an evaluation on tasks that are not the run's own, and the folder of these tasks."""
        return self.root / "evals" / name / "config.yaml"


def numbered(folder: Path) -> list[Path]:
    """The subfolders whose name is a number, such as 0003, in the order of the numbers. 0003.old is none of them."""
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal()), key=lambda path: int(path.name))


def open_run(folder: Path) -> tuple[Config, RunDir]:
    """The run in `folder` and its configuration, under the folder's present name: it may have been moved or copied.

    Raises:
        InputError: the folder holds no run.
    """
    run = RunDir(folder)
    config = configuration.read(run.config)
    place = folder.resolve()
    config.runs, config.name = str(place.parent), place.name
    return config, run


def finished(folder: Path) -> dict[int, dict[str, Any]]:
    """What is noted of the numbered folders in `folder` that are finished, by number. Reads one file, lists one folder.

    A note is a cache: it spares a look into the folder, and is made again if it is missing. One whose folder was
    removed is forgotten, as what is played again in its place may come to something else.
    """
    rows: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(folder / FINISHED):
        number = row.pop("number")
        rows.pop(number, None)
        if row:
            rows[number] = row
    there = {int(path.name) for path in numbered(folder)} if rows else set()
    for number in sorted(rows.keys() - there):
        with suppress(OSError):  # a disk that is full or read-only; the next one takes it back
            note_finished(folder, number, {})
        del rows[number]
    return rows


def forget_removed(run: RunDir) -> None:
    """Take back the notes of finished folders that were removed, before others are made in their place."""
    for folder in (run.root / "rounds", *(run.root / "evals").glob("*")):
        finished(folder)


def note_finished(folder: Path, number: int, outcome: dict[str, Any]) -> None:
    """Note what the folder of this number in `folder` came to; nothing: it is not finished any more."""
    append_json(folder / FINISHED, {"number": number, **outcome})


def progress_counters(run: RunDir, outputs: tuple[str, ...] = ()) -> dict[str, int]:
    """Counters of durable work. A later call returns other numbers whenever more became durable.

    Args:
        outputs: patterns of the folders that count; empty: those that the run may fill next, however many are finished.

    Returns:
        `journal_bytes`: bytes of episodes in journals; `gathered`: number of rounds with trajectories; `completed_ns`:
        when the newest folder was marked complete, in ns since 1970, 0 where none is. The number of complete folders
        would not do: old checkpoints are removed.
    """
    folders = [folder for pattern in outputs for folder in run.root.glob(pattern)] if outputs else [*_at_work(run)]
    return {
        "journal_bytes": sum(path.stat().st_size for folder in folders for path in folder.glob("journals/*.journal")),
        "gathered": sum((folder / "trajectories.h5").exists() for folder in folders),
        "completed_ns": max(map(_completed, folders), default=0),
    }


def _at_work(run: RunDir) -> Iterator[Path]:
    """The folders that a run may fill next: the newest policy and rounds after it, checkpoints, unfinished evaluations.

    While training makes older policies again, it saves checkpoints.
    """
    newest = max(run.newest_policy(), 0)
    yield run.policy(newest)
    yield from run.checkpoints.glob("*")
    yield from (path for path in numbered(run.root / "rounds") if int(path.name) >= newest)
    for folder in (run.root / "evals").glob("*"):
        yield folder / "tasks"
        over = finished(folder)
        yield from (path for path in numbered(folder) if int(path.name) <= newest and int(path.name) not in over)


def _completed(folder: Path) -> int:
    try:
        return (folder / MARK).stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


class StallTimer:
    """Watches whether anything of a run becomes durable within `seconds`."""

    def __init__(self, run: RunDir, seconds: float):
        self._run, self._seconds = run, seconds
        self._begin(progress_counters(run))

    def has_stalled(self) -> bool:
        """Whether the last `seconds` passed without progress."""
        if time.monotonic() < self._runs_out:
            return False
        if (counters := progress_counters(self._run)) == self._counters:
            return True
        self._begin(counters)
        return False

    def _begin(self, counters: dict[str, int]) -> None:
        self._counters, self._runs_out = counters, time.monotonic() + self._seconds
