"""The run directory: every path in it, and the one way a file gets there.

A published file is written under a temporary name, fsynced, renamed, and only then marked complete; a reader that
waits for the mark never sees a torn file, and a writer that died is simply run again.
"""

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InfrastructureError
from aworld.locks import is_held

MARK = "COMPLETE"
IDLE_SECONDS = 1800.0  # a writer that wrote nothing for so long has ended, also on a slow file system
HELD_OUT = "held-out"  # the name of evaluations on the run's own tasks
WHOLE = ("rounds/*", "evals/*/*", "policies/*", "checkpoints/*")  # all that a run makes


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
        """What was changed in `run.yaml` after the run began: when, after which round, from what to what."""
        return self.root / "changes.jsonl"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs.jsonl"

    @property
    def base(self) -> Path:
        """HF checkpoint that the cold start begins with."""
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

    def lock(self, name: str) -> Path:
        """Held by the process that does this work."""
        return self.root / "locks" / f"{name}.lock"

    def is_worked_on(self) -> bool:
        """Whether a process holds one of its locks: `locks.is_held`."""
        return any(is_held(path) for path in (self.root / "locks").glob("*.lock"))

    def policy(self, version: int) -> Path:
        """HF weights and tokenizer that a vLLM can serve."""
        return self.root / "policies" / f"{version:04d}"

    def policies(self) -> list[int]:
        """The versions that are published, in order."""
        return [int(path.name) for path in numbered(self.root / "policies") if is_complete(path)]

    def round(self, number: int) -> Path:
        return self.root / "rounds" / f"{number:04d}"

    def trajectories(self, number: int) -> Path:
        return self.round(number) / "trajectories.h5"

    def evaluation(self, name: str, version: int) -> Path:
        return self.root / "evals" / name / f"{version:04d}"

    def benchmark(self, name: str) -> Path:
        """Of an evaluation on other tasks than the run's own: its configuration, and the folder of its tasks."""
        return self.root / "evals" / name / "config.yaml"


def numbered(folder: Path) -> list[Path]:
    """The subfolders whose whole name is a number, such as 0003, in its order. A user's 0003.old is left alone."""
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal()), key=lambda path: int(path.name))


def open_run(folder: Path) -> tuple[Config, RunDir]:
    """The configuration of the run in `folder`, under the name that the folder has: it may have been moved, or copied.

    Raises:
        InputError: it holds no run.
    """
    run = RunDir(folder)
    config = configuration.read(run.config)
    place = folder.resolve()
    config.runs, config.name = str(place.parent), place.name
    return config, run


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_file(path: Path) -> None:
    with open(path, "rb") as f:
        os.fsync(f.fileno())


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.uname().nodename}-{os.getpid()}")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file; on a clean exit it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        _fsync_file(temporary)
        os.replace(temporary, path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    with publishing(path) as temporary:
        temporary.write_text(text)


def publish_json(path: Path, value: Any) -> None:
    publish_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def publish_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder, then make it appear as `path`, complete. Does nothing where it already is."""
    if is_complete(path):
        return
    temporary = begin_folder(path)
    try:
        fill(temporary)
        finish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def begin_folder(path: Path) -> Path:
    """An empty temporary folder beside `path`, to be filled for `finish_folder`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def finish_folder(temporary: Path, path: Path) -> None:
    """Make a folder that is filled durable, and let it appear as `path`, complete."""
    for file in temporary.rglob("*"):
        if file.is_file():
            _fsync_file(file)
        elif file.is_dir():
            fsync_dir(file)
    fsync_dir(temporary)
    shutil.rmtree(path, ignore_errors=True)  # an unmarked folder: its writer died before the mark
    os.replace(temporary, path)
    fsync_dir(path.parent)
    mark_complete(path)


def mark_complete(folder: Path) -> None:
    """Leave the completion mark: the names, sizes (bytes) and CRC-32 of the files it vouches for."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MARK]
    with ThreadPoolExecutor() as threads:
        sums = list(threads.map(_checksum, files))
    vouched = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "crc32": crc}
        for path, crc in zip(files, sums, strict=True)
    }
    publish_json(folder / MARK, {"files": vouched, "time": time.time()})


def is_complete(folder: Path) -> bool:
    """Whether the mark is there and every file it vouches for has the size it had. Cheap: it reads no file."""
    try:
        mark = json.loads((folder / MARK).read_text())
        return all((folder / name).stat().st_size == file["size"] for name, file in mark["files"].items())
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False


def damaged(folder: Path) -> list[str]:
    """The files of a complete folder that are not what they were when it was marked. Reads them all, in threads."""
    files = json.loads((folder / MARK).read_text())["files"]
    with ThreadPoolExecutor() as threads:
        sums = threads.map(lambda name: _checksum(folder / name), files)
        return [name for name, found in zip(files, sums, strict=True) if found != files[name]["crc32"]]


def verify(folder: Path) -> None:
    """
    Raises:
        InfrastructureError: a file of the folder is not what it was when it was marked complete.
    """
    if wrong := damaged(folder):
        raise InfrastructureError(
            f"{folder} is damaged ({', '.join(wrong)}) and not used; remove the folder, then: aworld resume RUN"
        )


def _checksum(path: Path) -> int:
    value = 0
    with open(path, "rb", buffering=0) as f:
        while block := f.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def sweep(folder: Path) -> None:
    """Remove what writers left half-written: those of this node that have ended, and what nobody writes any more."""
    for stale in folder.glob(".*.tmp-*"):
        node, _, pid = stale.name.rpartition(".tmp-")[2].rpartition("-")
        has_ended = node == os.uname().nodename and not Path(f"/proc/{pid}").exists()
        if not (has_ended or is_idle(stale)):
            continue
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def is_idle(path: Path) -> bool:
    """Whether nothing in a file or folder was written for IDLE_SECONDS."""
    newest = 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):  # it was renamed or removed just now
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest > IDLE_SECONDS


def append_json(path: Path, value: Any) -> None:
    """Append one line to a JSON-lines file; one write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as f:
        f.write(json.dumps(value).encode() + b"\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file. Missing file: none.

    What is torn is left out: the last line, or one that another node wrote into where the file system does not append.
    """
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def progress_counters(run: RunDir, makes: tuple[str, ...] = WHOLE) -> dict[str, int]:
    """Counters of the durable work in these folders. A later call returns other numbers whenever more became durable.

    Returns:
        `journal_bytes`: bytes of episodes in journals; `gathered`: number of rounds with trajectories; `completed_ns`:
        when the newest folder was marked complete, in ns since 1970, 0 where none is. The number of complete folders
        would not do: old checkpoints are removed.
    """
    folders = [folder for pattern in makes for folder in run.root.glob(pattern)]
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
    """Says whether nothing of the run became durable for `seconds`."""

    def __init__(self, run: RunDir, seconds: float):
        self._run, self._seconds = run, seconds
        self._begin(progress_counters(run))

    def has_stalled(self) -> bool:
        if time.monotonic() < self._runs_out:
            return False
        if (counters := progress_counters(self._run)) == self._counters:
            return True
        self._begin(counters)
        return False

    def _begin(self, counters: dict[str, int]) -> None:
        self._counters, self._runs_out = counters, time.monotonic() + self._seconds
