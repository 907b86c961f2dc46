"""The run directory: every path in it, and how far the work in it is."""

import time
from dataclasses import dataclass
from pathlib import Path

from aworld import config as configuration
from aworld.config import Config
from aworld.locks import is_held
from aworld.publish import MARK, is_complete

HELD_OUT = "held-out"  # the name of evaluations on the run's own tasks
ALL_OUTPUTS = ("rounds/*", "evals/*/*", "policies/*", "checkpoints/*")  # every folder that a run fills


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
        """Whether a process holds one of the run's locks."""
        return any(is_held(path) for path in (self.root / "locks").glob("*.lock"))

    def policy(self, version: int) -> Path:
        """The HF folder, weights and tokenizer, that vLLM can serve."""
        return self.root / "policies" / f"{version:04d}"

    def policies(self) -> list[int]:
        """The published versions, in order."""
        return [int(path.name) for path in numbered(self.root / "policies") if is_complete(path)]

    def lacks(self, version: int) -> bool:
        """Whether a policy was removed, or damaged: it is not there, but a later one is."""
        return not is_complete(self.policy(version)) and any(later > version for later in self.policies())

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


def progress_counters(run: RunDir, outputs: tuple[str, ...] = ALL_OUTPUTS) -> dict[str, int]:
    """Counters of the durable work in these folders. A later call returns other numbers whenever more became durable.

    Returns:
        `journal_bytes`: bytes of episodes in journals; `gathered`: number of rounds with trajectories; `completed_ns`:
        when the newest folder was marked complete, in ns since 1970, 0 where none is. The number of complete folders
        would not do: old checkpoints are removed.
    """
    folders = [folder for pattern in outputs for folder in run.root.glob(pattern)]
    return {
        "journal_bytes": sum(path.stat().st_size for folder in folders for path in folder.glob("journals/*.journal")),
        "gathered": sum((folder / "trajectories.h5").exists() for folder in folders),
        "completed_ns": max(map(_completed, folders), default=0),
    }


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
