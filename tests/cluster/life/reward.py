"""The reward of these sums: 1 for the right answer. Whether a tool helped is recorded with it."""

from typing import Any


def score(episode: Any, task: Any) -> dict[str, float]:
    used = any(call.tool == "python" and not call.is_error for call in episode.calls)
    return {"reward": float(episode.answer == task.answer), "used": float(used)}
