"""The tasks and rewards of a verifiers taskset, whose id is `tasks.path`.

verifiers and the taskset are installed in an environment of their own, whose Python `tasks.python` names: its packages
contradict ours. Our agents play in the place of its harness. The rewards run in the sandbox and see the answer.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.errors import InputError
from aworld.publish import publish_folder
from aworld.tasks import jsonl, rows
from aworld.tasks.task import Program, Task

SCORER = Path(__file__).with_name("verifiers_score.py")
USES = ("path", "held_out_path", "seed", "held_out", "python")  # of the settings below `tasks`
SECONDS = 3600.0  # to load a taskset, which may download its data


class VerifiersTasks:
    """A TaskSource copied into `folder` (once; later uses read it)."""

    def __init__(self, config: schema.Source, folder: Path):
        self._folder, self._python, self._seconds = folder, config.python, config.score_seconds
        self.corpus: Path | None = None
        publish_folder(folder, lambda where: jsonl.write(read(config), where))

    def tasks(self, split: str) -> Iterable[Task]:
        return jsonl.RowTasks(self._folder).tasks(split)

    def score(self, answer: str | None, task: Task) -> Program:
        """The sum of the task's rewards; each is a part of it."""
        asked = {"answer": answer, **task.metadata}
        return Program(SCORER, asked, seconds=self._seconds, has_to_score=True, python=self._python)


def source(config: schema.Source, folder: Path) -> VerifiersTasks:
    return VerifiersTasks(config, folder)


def read(config: schema.Source) -> dict[str, list[Task]]:
    """The tasks of both splits.

    Raises:
        InputError: a taskset cannot be loaded or played, a row is no task, or a task is in both.
    """
    if not config.path and not config.held_out_path:
        raise InputError("tasks.path=null: name a verifiers taskset by its id, as in verifiers' taskset.id")
    if not Path(config.python).is_file():
        raise InputError(
            f"tasks.python={config.python or '(empty)'} is not there; name the Python of an environment that has "
            "verifiers and the taskset: python3 -m venv VENV && VENV/bin/pip install 'verifiers>=0.4,<0.5' …; "
            "then tasks.python=VENV/bin/python"
        )
    found: dict[str, list[Task]] = {"train": [], "held_out": []}
    if config.held_out_path:
        found["held_out"] = _tasks(config.held_out_path, config.python)
    if config.path:
        found["train"] = _tasks(config.path, config.python)
        if not config.held_out_path:
            found = jsonl.parted(found["train"], config)
    jsonl.check_unseen(found)
    return found


def _tasks(name: str, python: str) -> list[Task]:
    head, *data = _loaded(name, python)
    if head["refused"]:
        raise InputError(
            f"tasks.path={name}: {head['refused']}; only tasksets whose rewards read the answer are played here"
        )
    given = (rows.Row(f"{name} task {number}", _row(name, one)) for number, one in enumerate(data))
    return [replace(task, needs_gold=False) for task in rows.tasks_of(given, Path(), "verifiers")]


def _loaded(name: str, python: str) -> list[dict[str, Any]]:
    try:
        command = [python, "-P", str(SCORER), name]  # -P: else modules of this folder would stand for packages
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode == 0:
            return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][-300:]
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    raise InputError(f"tasks.path={name}: {python} cannot load it: {reason}; mend the id, or install it there")


def _row(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """A task's data as a row; texts of its messages, one below the other, are the question."""
    prompt = data.get("prompt") or ""
    texts = [prompt] if isinstance(prompt, str) else [_text(message.get("content")) for message in prompt]
    question = "\n\n".join(text for text in (data.get("system_prompt") or "", *texts) if text)
    task_id = data.get("id") or data.get("name") or str(data.get("idx"))
    return {"id": task_id, "question": question, "answer": _gold(data), "metadata": {"taskset": name, "data": data}}


def _gold(data: dict[str, Any]) -> str | None:
    gold = data.get("answer")
    return str(gold) if isinstance(gold, str | int | float) and str(gold).strip() else None


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "\n".join(part.get("text") or "" for part in parts)
