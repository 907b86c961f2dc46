"""Episodes as a rollout leaves them, of any size."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from aworld.trajectories.episode import Context, Episode, Turn


def make_episode(task: str = "train-00001", attempt: int = 0, length: int = 20, **changes: Any) -> Episode:
    """An episode whose tokens follow from its identity and status."""
    status = changes.get("status", "answered")
    rng = random.Random(f"{task}/{attempt}/{status}")
    mask = [int(at >= length // 3) for at in range(length)]
    values: dict[str, Any] = {
        "round": 1,
        "task_id": task,
        "attempt": attempt,
        "level": 1 + attempt % 3,
        "question": "How many?",
        "token_ids": [rng.randrange(151_936) for _ in range(length)],
        "mask": mask,
        "logprobs": [-rng.randrange(2**20) / 2**20 if m else 0.0 for m in mask],  # each is a float32
        "turns": [Turn("prompt", "How many?"), Turn("assistant", "4"), Turn("tool", "ok", "python", {"code": "2+2"})],
        "answer": "4",
        "reward": float(rng.random() < 0.5),
        "status": status,
        "seconds": {"wait": 0.1, "generate": 1.5, "tools": 0.25, "total": 1.9},
        "policy_version": 0,
        "seed": rng.getrandbits(63),
        "sampling": {"temperature": 1.0, "top_k": -1},
        "contexts": [Context("solver"), *([Context("chécker", length // 2)] if attempt % 2 else [])],
    }
    return Episode(**(values | changes))


@pytest.fixture(scope="session")
def episode() -> Callable[..., Episode]:
    return make_episode
