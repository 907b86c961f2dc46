"""The scorers of an inspect_ai task, as a `Program` of `task.py`: `inspect_score.py SCORERS [FILE]`.

It runs in a sandbox, without a network and without the rest of aworld. SCORERS is JSON: [{"name", "with"}]. FILE is the
task's file, which may define scorers.
"""

import asyncio
import json
import re
import runpy
import sys
from typing import Any

from inspect_ai._util.registry import registry_create
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
from inspect_ai.scorer import Scorer, Target, value_to_float
from inspect_ai.solver import TaskState

MODEL: Any = "none/none"


def score(request: dict[str, Any]) -> dict[str, float]:
    """The worth of `answer` to `sample` by each scorer; that of the first is the reward."""
    state, target = _state(request["answer"], request["sample"]), Target(request["sample"]["target"])

    async def worth(scorer: Scorer) -> float:
        given = await scorer(state, target)
        if given is None or isinstance(given.value, dict | list | tuple):
            raise ValueError(f"gave {given and given.value!r}, which is no single value")
        return value_to_float()(given.value)

    async def all_of_them() -> list[float]:
        return [await worth(scorer) for scorer in scorers]

    found = asyncio.run(all_of_them())
    return dict(zip(names, found, strict=True)) | {"reward": found[0]}  # last: a scorer may have that name


def _state(answer: str, sample: dict[str, Any]) -> TaskState:
    """A state that ended with this answer. Letters in the answer mark the choices."""
    state = TaskState(
        model=MODEL,
        sample_id="sample",
        epoch=1,
        input=sample["input"],
        messages=[ChatMessageUser(content=sample["input"]), ChatMessageAssistant(content=answer)],
        target=Target(sample["target"]),
        choices=sample["choices"] or [],
        output=ModelOutput.from_content(MODEL, answer),
        metadata=sample["metadata"] or {},
        completed=True,
    )
    marked = set(re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", answer))
    for number in range(len(state.choices)):
        state.choices.mark_choice(number, chr(ord("A") + number) in marked)
    return state


if __name__ == "<run_path>":  # the server imports it so
    asked = json.loads(sys.argv[1])
    if sys.argv[2:]:
        runpy.run_path(sys.argv[2])
    names = [one["name"].rpartition("/")[2] for one in asked]
    scorers = [registry_create("scorer", one["name"], **one["with"]) for one in asked]
