"""Rows of the user's own: JSON lines, parquet, or a Hugging Face `datasets` folder. `rows.py` has their shapes.

`tasks.path` is trained on and `tasks.held_out_path` evaluated on. Without the second one, `tasks.held_out` of the rows
in the first are held out, chosen by `tasks.seed` and each row's id. All are copied into the run, which goes on with the
copy when a file changes; attachments stay where they are.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from aworld import config as schema
from aworld.errors import InputError
from aworld.plugins import is_file
from aworld.publish import publish_folder
from aworld.tasks import rewards, rows
from aworld.tasks.task import Task

USES = ("path", "held_out_path", "seed", "held_out", "reward", "judge")  # of the settings below `tasks`
SPLITS = ("train", "held_out")
FILES = "files.json"  # beside the tasks: the state of each file when it was copied
TRAIN, HELD_OUT = ("train",), ("held_out", "test", "validation")  # names of the splits of a dataset


class RowTasks:
    """A TaskSource copied into `folder` (once; later uses read it). Without another reward GAIA's scorer decides."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.corpus: Path | None = None

    def tasks(self, split: str) -> Iterable[Task]:
        lines = (self.folder / f"{split}.jsonl").read_text("utf-8").split("\n")
        return [rows.from_line(line) for line in lines if line]

    def score(self, answer: str | None, task: Task) -> float:
        return 0.0 if answer is None else rewards.gaia(answer, task)


def source(config: schema.Source, folder: Path) -> RowTasks:
    def fill(where: Path) -> None:
        write(read(config), where)
        named = [Path(path) for path in (config.path, config.held_out_path) if path]
        (where / FILES).write_text(json.dumps({str(path): state(path) for path in named}))

    publish_folder(folder, fill)
    return RowTasks(folder)


def size(config: schema.Source) -> int:
    """How many rows are held out. They are counted, and not checked.

    Raises:
        InputError: a file that has to be counted cannot be read.
    """
    if config.held_out_path:
        return _count(Path(config.held_out_path))
    path = Path(config.path or "")
    train, other = (_first(rows.splits_of(path), names) for names in (TRAIN, HELD_OUT))
    if train and other:
        return _count(other)
    share = config.held_out
    return int(share) if share >= 1 or not share else max(1, round(share * _count(train or path)))


def _count(path: Path) -> int:
    return sum(1 for _ in rows.read(path))


def edited(folder: Path) -> list[str]:
    """A line for each file that changed since it was copied into `folder`."""
    copied = json.loads((folder / FILES).read_text()) if (folder / FILES).is_file() else {}
    return [
        f"{path} changed since the run began, which goes on with its copy in {folder}; to use it as it is now, begin "
        "another run with name=…"
        for path, then in copied.items()
        if state(Path(path)) != then
    ]


def state(path: Path) -> list[list[int]]:
    """Of a file, or of all files in a folder: the size in bytes and the time of the last change, in ns."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [file.stat() for file in files if file.is_file()]
    return [[state.st_size, state.st_mtime_ns] for state in states]


def write(splits: dict[str, list[Task]], folder: Path) -> None:
    """Write the tasks of each split into a folder, for `RowTasks`."""
    for split in SPLITS:
        lines = [rows.to_line(task) + "\n" for task in splits.get(split, [])]
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")


def read(config: schema.Source) -> dict[str, list[Task]]:
    """The tasks of both splits.

    Raises:
        InputError: a file cannot be read, a row is no task, or a task is in both.
    """
    if not config.path and not config.held_out_path:
        raise InputError("tasks.path=null: name your rows: a .jsonl or .parquet file, or a folder of `datasets`")
    found: dict[str, list[Task]] = {"train": [], "held_out": []}
    if config.held_out_path:
        found["held_out"] = _tasks(Path(config.held_out_path))
    if config.path:
        splits = rows.splits_of(Path(config.path))
        train, other = (_first(splits, names) for names in (TRAIN, HELD_OUT))
        found["train"] = _tasks(train or Path(config.path))
        if other and train and not config.held_out_path:
            found["held_out"] = _tasks(other)
        elif not config.held_out_path:
            found = parted(found["train"], config)
        if missing := [task.task_id for task in found["train"] if task.answer is None and not is_file(config.reward)]:
            raise InputError(
                f"{config.path}: {len(missing)} tasks have no answer to learn from, the first of them {missing[0]!r}; "
                "add their answers, or decide without them by a tasks.reward of your own"
            )
    check_unseen(found)
    return found


def _tasks(path: Path) -> list[Task]:
    found = rows.tasks_of(rows.read(path), path if path.is_dir() else path.parent, "jsonl")
    if not found:
        raise InputError(f"{path} holds no task; write a row for each")
    return found


def _first(splits: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((splits[name] for name in names if name in splits), None)


def parted(tasks: list[Task], config: schema.Source) -> dict[str, list[Task]]:
    """The tasks in two: those held out are the first by a hash of the seed and their ids, wherever they are."""
    wanted = config.held_out
    count = max(1, round(wanted * len(tasks))) if 0 < wanted < 1 else int(wanted)
    if count >= len(tasks) or count != wanted >= 1:
        raise InputError(
            f"tasks.held_out={wanted:g} of {len(tasks)} tasks in {config.path} leaves none to train on, or is no whole "
            "number; give fewer, or a share such as 0.1"
        )
    chosen = sorted(tasks, key=lambda task: hashlib.sha256(f"{config.seed}/{task.task_id}".encode()).digest())[:count]
    names = {task.task_id for task in chosen}
    return {
        "train": [task for task in tasks if task.task_id not in names],
        "held_out": [task for task in tasks if task.task_id in names],
    }


def check_unseen(found: dict[str, list[Task]]) -> None:
    """Check that no task is trained on and evaluated on.

    Raises:
        InputError: one is, and a figure on it would measure nothing.
    """
    trained = {_asked(task): task.task_id for task in found.get("train", [])}
    for task in found.get("held_out", []):
        if other := trained.get(_asked(task)):
            raise InputError(
                f"the held-out task {task.task_id!r} asks the same as {other!r}, which is trained on: a figure on it "
                "measures nothing; leave one of them out"
            )


def _asked(task: Task) -> tuple[str, tuple[Path, ...], Path | None]:
    return task.question.strip(), task.files, task.container.image if task.container else None
