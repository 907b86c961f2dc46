"""The samples of an inspect_ai task, and its scorers: `tasks.path` is `FILE.py@TASK`, or `PACKAGE/TASK`.

Our agents take the place of the task's solver. The scorers run in the sandbox, without a network. Samples, files and
the task's file are copied into the run.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aworld import config as schema
from aworld.errors import InputError
from aworld.publish import publish_folder
from aworld.tasks import jsonl
from aworld.tasks.rows import BadRows
from aworld.tasks.task import Program, Task

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample

SCORER = Path(__file__).with_name("inspect_score.py")
USES = ("path", "held_out_path", "seed", "held_out")  # of the settings below `tasks`
SCORERS, FILE = "scorers.json", "task.py"  # in the folder, by split


class InspectTasks:
    """A TaskSource copied into `folder` (once; later uses read it)."""

    def __init__(self, config: schema.Source, folder: Path):
        self._folder, self._seconds = folder.absolute(), config.score_seconds
        self.corpus: Path | None = None
        publish_folder(folder, lambda where: _copy(config, where))

    def tasks(self, split: str) -> Iterable[Task]:
        found = jsonl.RowTasks(self._folder).tasks(split)
        return [replace(task, files=tuple(self._folder / file for file in task.files)) for task in found]

    def score(self, answer: str | None, task: Task) -> Program:
        """The task's own scorers. The first one decides; all are parts of the reward."""
        folder = self._folder / task.metadata["of"]
        file = folder / FILE
        return Program(
            SCORER,
            {"answer": answer, "sample": task.metadata["sample"]},
            arguments=((folder / SCORERS).read_text(), *([str(file)] if file.is_file() else [])),
            reads=(file,) if file.is_file() else (),
            seconds=self._seconds,
            has_to_score=True,
        )


def source(config: schema.Source, folder: Path) -> InspectTasks:
    return InspectTasks(config, folder)


def _copy(config: schema.Source, folder: Path) -> None:
    if not config.path and not config.held_out_path:
        raise InputError("tasks.path=null: name an inspect_ai task: FILE.py@TASK, or PACKAGE/TASK")
    found: dict[str, list[Task]] = {"train": [], "held_out": []}
    if config.held_out_path:
        found["held_out"] = _read(config.held_out_path, folder, "held_out")
    if config.path:
        found["train"] = _read(config.path, folder, "train")
        if not config.held_out_path:
            found = jsonl.parted(found["train"], config)
    jsonl.check_unseen(found)
    jsonl.write(found, folder)


def _read(name: str, folder: Path, split: str) -> list[Task]:
    """The tasks of an inspect_ai task; what its scorers need goes to the folder's `split`."""
    try:
        from inspect_ai._eval.loader import load_tasks  # importing inspect_ai takes seconds
        from inspect_ai._util.registry import registry_info, registry_params
    except ImportError:
        raise InputError("tasks.source=inspect needs inspect_ai: pip install 'inspect-ai>=0.3.200,<0.4'") from None
    path = Path(name.partition("@")[0])
    if path.suffix == ".py" and "@" not in name:
        raise InputError(f"tasks.path={name} names no task of the file; name one: {name}@TASK")
    if path.suffix == ".py" and not path.is_file():
        raise InputError(f"{path} is not there (looked in {Path.cwd()}); mend tasks.path")
    try:
        loaded = load_tasks([name], {})
    except Exception as error:  # of the user's file
        raise InputError(f"tasks.path={name}: {type(error).__name__}: {error}; mend it") from error
    if len(loaded) != 1:
        names = ", ".join(str(one.name) for one in loaded) or "none"
        raise InputError(f"tasks.path={name} holds {len(loaded)} tasks ({names}); name one")
    task = loaded[0]
    scorers = [{"name": registry_info(one).name, "with": registry_params(one)} for one in task.scorer or []]
    if not scorers:
        raise InputError(f"tasks.path={name} has no scorer; add one")
    if graded := [str(one["name"]) for one in scorers if "model_graded" in str(one["name"])]:
        raise InputError(
            f"tasks.path={name}: {graded[0]} asks a model, and scorers have no network; take the samples as rows with "
            "tasks.reward=judge, or leave that scorer out"
        )
    if task.sandbox or task.setup:
        raise InputError(
            f"tasks.path={name} wants a sandbox or a setup of inspect_ai's; tasks that bring containers are played as "
            "task folders (tasks=harbor)"
        )
    place = folder / split
    place.mkdir()
    try:
        (place / SCORERS).write_text(json.dumps(scorers))
    except TypeError as error:
        raise InputError(f"tasks.path={name}: an argument of its scorer is no JSON ({error}); leave it out") from None
    if path.suffix == ".py":
        shutil.copy(path, place / FILE)
    return _tasks(name, task.dataset, place, path.parent)


def _tasks(name: str, samples: "Iterable[Sample]", folder: Path, beside: Path) -> list[Task]:
    tasks, bad = [], []
    for number, sample in enumerate(samples, 1):
        try:
            task_id = str(sample.id if sample.id is not None else number)
            question = _question(sample)
            files = _files(sample, folder / "files" / str(number), beside)
        except ValueError as error:
            bad.append(f"{name} sample {number}: {error}")
            continue
        target = sample.target if isinstance(sample.target, str) else sample.target[0] if sample.target else ""
        shown = {"input": question, "target": sample.target, "choices": sample.choices, "metadata": sample.metadata}
        metadata = {"sample": json.loads(json.dumps(shown, default=str)), "of": folder.name}
        tasks.append(Task(task_id, question, target or None, 1, files, "inspect", metadata, needs_gold=False))
    if bad:
        raise BadRows(bad)
    return tasks


def _question(sample: "Sample") -> str:
    """The input as one text, with the choices by letters.

    Raises:
        ValueError: it is a conversation, or wants a sandbox.
    """
    if sample.sandbox or sample.setup:
        raise ValueError("it wants a sandbox or a setup of inspect_ai's; leave it out")
    texts = [sample.input] if isinstance(sample.input, str) else [message.text for message in sample.input]
    if not isinstance(sample.input, str) and any(message.role not in ("system", "user") for message in sample.input):
        raise ValueError("it is a conversation with an assistant, which is not played; leave it out")
    choices = [f"{chr(ord('A') + number)}) {text}" for number, text in enumerate(sample.choices or [])]
    question = "\n\n".join([*texts, *(["\n".join(choices)] if choices else [])])
    if not question.strip():
        raise ValueError("its input is empty; write it")
    return question


def _files(sample: "Sample", folder: Path, beside: Path) -> tuple[Path, ...]:
    """Its files: copies of those that are there, else their contents; by their paths in the source's folder.

    Raises:
        ValueError: a name has a folder.
    """
    found = []
    for name, given in (sample.files or {}).items():
        if Path(name).name != name:
            raise ValueError(f"its file {name!r} lies in a folder; attachments have plain names")
        folder.mkdir(parents=True, exist_ok=True)
        there = _there(beside, given)
        (folder / name).write_bytes(there.read_bytes() if there else given.encode())
        found.append((folder / name).relative_to(folder.parents[2]))
    return tuple(found)


def _there(beside: Path, given: Any) -> Path | None:
    """The file of that path, from the folder of the task's file; None: there is none."""
    try:
        path = beside / str(given)
        return path if path.is_file() else None
    except (OSError, ValueError):  # a content is no path
        return None
