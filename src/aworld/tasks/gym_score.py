"""reasoning-gym's own scorers, as a `Program` of `task.py`. It runs in a sandbox, without the rest of aworld."""

import ast
from typing import Any

import reasoning_gym


def score(request: dict[str, Any]) -> float:
    """What `answer` to the task `entry`, a Python literal, of `dataset` is worth, 0 to 1."""
    scorer = reasoning_gym.get_score_answer_fn(request["dataset"])
    return float(scorer(request["answer"], ast.literal_eval(request["entry"])))
