"""GAIA's leaderboard file: a line of JSON for every task, failures too."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from aworld.errors import InputError
from aworld.evaluation.attempt import Attempt
from aworld.evaluation.benchmark import Played
from aworld.evaluation.figures import by_task, voted
from aworld.publish import publish_text

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "task_id": {"type": "string", "minLength": 1},
        "model_answer": {"type": "string"},
        "reasoning_trace": {"type": "string"},
    },
    "required": ["task_id", "model_answer"],
    "additionalProperties": False,
}


def export(played: Played[Attempt], path: Path) -> int:
    """Write the file, with the answer voted for, empty where there is none.

    Returns:
        The number of tasks with an answer.

    Raises:
        InputError: what would be written is no such file; nothing is.
    """
    of_task = by_task(played)
    lines = [_line(task.task_id, voted(of_task[task.task_id])) for task in played.tasks]
    text = "".join(json.dumps(line) + "\n" for line in lines)  # in ASCII, for no reader to find more line ends in it
    check(text, [task.task_id for task in played.tasks])
    publish_text(path, text)
    return sum(bool(line["model_answer"]) for line in lines)


def check(text: str, tasks: list[str]) -> None:
    """Check the text of the file.

    Raises:
        InputError: it is not a line for each of `tasks`, once, as the schema has it.
    """
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as reason:
            raise InputError(f"line {number} of the leaderboard's file is no JSON: {reason}") from None
        if wrong := best_match(Draft202012Validator(SCHEMA).iter_errors(lines[-1])):
            raise InputError(f"line {number} of the leaderboard's file: {wrong.message[:200]}")
    names = [line["task_id"] for line in lines]
    if sorted(names) != sorted(tasks) or len(set(names)) < len(names):
        raise InputError(f"the leaderboard's file has not each of the {len(tasks)} tasks once: {len(names)} lines")


def _line(task: str, attempt: Attempt | None) -> dict[str, Any]:
    if attempt is None:
        return {"task_id": task, "model_answer": "", "reasoning_trace": ""}
    said = "\n".join(turn.text for turn in attempt.read().turns if turn.role == "assistant")
    return {"task_id": task, "model_answer": attempt.answer, "reasoning_trace": said}
