"""Trajectories to train on, and the trainer run in any layout."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layout import ONE_PROCESS, Layout

from aworld.trajectories import file
from aworld.trajectories.arrays import COLUMNS, CONTEXT, Trajectories, offsets_of

PROGRAM = Path(__file__).with_name("in_layout.py")


def make_trajectories(policy: Path, seed: int = 0) -> Trajectories:
    """Four tasks, ragged lengths, several sampled turns each; a short group, equal rewards, and attempts that failed.
    Odd attempts are two agents', whose contexts know nothing of each other.

    The log-probabilities are the policy's own (by transformers) plus noise, as if an older policy had sampled.
    """
    from transformers import AutoModelForCausalLM

    rng = np.random.default_rng(seed)
    rewards = {"mixed": [1, 0, 0, 1, 0], "short": [1, 0], "equal": [1, 1, 1], "lost": [0, 1, 1, 0, 0]}
    failed = {("lost", 1): b"timeout", ("lost", 4): b"infra_error"}
    identities = [(task, attempt) for task in sorted(rewards) for attempt in range(len(rewards[task]))]
    rows = np.zeros(len(identities), COLUMNS)
    tokens, masks, logprobs, contexts = [], [], [], []
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    for row, (task, attempt) in zip(rows, identities, strict=True):
        row["task_id"], row["attempt"], row["reward"] = task.encode(), attempt, rewards[task][attempt]
        row["status"] = failed.get((task, attempt), b"answered")
        row["seconds_total"], row["seconds_stalled"] = 60, 30 * (row["status"] == b"timeout")  # the engine's fault
        length = int(rng.integers(9, 60))
        ids = rng.integers(0, 512, length)
        mask = np.zeros(length, np.uint8)
        mask[length // 3 : length // 2] = 1
        mask[length - int(rng.integers(2, 5)) : length - int(attempt == 1)] = 1
        starts = [0, length // 2] if attempt % 2 else [0]
        contexts.append([(b"agent", start) for start in starts])
        own = np.zeros(length, np.float32)
        for begin, end in zip(starts, [*starts[1:], length], strict=True):
            part = ids[begin:end]
            with torch.no_grad():
                log_p = model(torch.from_numpy(part)[None]).logits[0].log_softmax(-1).numpy()
            own[begin + 1 : end] = log_p[np.arange(len(part) - 1), part[1:]]
        noisy = own + rng.normal(0, 0.2, length).astype(np.float32)
        tokens.append(ids.astype(np.int32))
        masks.append(mask)
        logprobs.append(np.where(mask, noisy, 0).astype(np.float32))
    offsets, owned = (offsets_of(np.array([len(row) for row in ragged])) for ragged in (tokens, contexts))
    flat = [np.concatenate(ragged) for ragged in (tokens, masks, logprobs)]
    return Trajectories(
        1, *flat, offsets, rows, np.array([context for row in contexts for context in row], CONTEXT), owned
    )


@pytest.fixture(scope="session")
def trajectories(checkpoint: Callable[..., Path]) -> Trajectories:
    return make_trajectories(checkpoint())


@pytest.fixture(scope="session")
def in_layout(
    checkpoint: Callable[..., Path],
    trajectories: Trajectories,
    torchrun: Callable[..., None],
    once: Callable[..., Path],
) -> Callable[[Layout], Path]:
    """`in_layout(layout)`: the folder with what `in_layout.py` made of the checkpoints there."""

    def run(layout: Layout) -> Path:
        def make(out: Path) -> None:
            file.write(out / "trajectories.h5", trajectories)
            words: dict[str, Any] = {
                **asdict(layout),
                "out": str(out),
                "checkpoints": {name: str(checkpoint(0, name == "tied")) for name in ("untied", "tied")},
                "with_yarn": {name: str(checkpoint(0, name == "tied", True)) for name in ("untied", "tied")},
                "trajectories": str(out / "trajectories.h5"),
                "resume": str(out if layout == ONE_PROCESS else run(ONE_PROCESS)),
            }
            torchrun(PROGRAM, layout.tensor * layout.pipeline * layout.context * layout.data, json.dumps(words))

        return once(layout.name, make)

    return cache(run)
