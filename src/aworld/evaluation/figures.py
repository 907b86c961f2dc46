"""What a benchmark's episodes come to. Every task and attempt that was asked for counts, played or not."""

import json
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from aworld.errors import InputError
from aworld.evaluation import statistics
from aworld.evaluation.benchmark import Played
from aworld.rundir import publish_text
from aworld.trajectories.episode import Episode

RESAMPLES = 10_000


def figures(played: Played) -> dict[str, Any]:
    """For report.json: pass@1 with its interval and by level, pass@k, majority vote, and what it took.

    `pass_at_k[k - 1]` is the unbiased pass@k over all attempts, the curve of success against attempts; an attempt that
    is worth a part of 1 is none that passed.
    """
    levels = {task.task_id: task.level for task in played.tasks}
    voted = [played.source.score(majority(played.of(task)), task) for task in played.tasks]
    tools = [turn for episode in played.episodes for turn in episode.turns if turn.role == "tool"]
    return {
        **statistics.evaluation(played.episodes, levels, played.attempts),
        "pass_at_k": [_pass_at(played, k) for k in range(1, played.attempts + 1)],
        "majority": float(np.mean(voted)),
        "tokens": _spread(e.sampling.get("completion_tokens", sum(e.mask)) for e in played.episodes),
        "turns": _spread(sum(turn.role == "assistant" for turn in e.turns) for e in played.episodes),
        "seconds": _spread(episode.seconds.get("total", 0.0) for episode in played.episodes),
        "tools": {
            name: {"calls": calls, "errors": sum(turn.is_error for turn in tools if turn.tool == name)}
            for name, calls in sorted(Counter(str(turn.tool) for turn in tools).items())
        },
    }


def majority(episodes: Iterable[Episode]) -> str | None:
    """The answer given most often, and of equals the first; an attempt without an answer has no vote.

    Writings that differ in case, white space and the marks around them are one.
    """
    answers = [e.answer for e in sorted(episodes, key=lambda e: e.attempt) if e.answer is not None]
    votes = Counter(map(_normal, answers))
    return max(answers, key=lambda answer: votes[_normal(answer)], default=None)  # max takes the first of equals


def compare(one: Played, other: Played, seed: int = 0) -> dict[str, Any]:
    """Pass@1 of `other` minus that of `one`, paired by task, with a 95 % percentile bootstrap over tasks.

    Raises:
        InputError: their tasks are not the same.
    """
    before, after = (_means(played) for played in (one, other))
    if before.keys() != after.keys():
        raise InputError(f"{len(before)} and {len(after)} tasks that are not the same cannot be paired")
    gains = np.array([after[task] - before[task] for task in before])
    drawn = np.random.default_rng(seed).integers(0, len(gains), (RESAMPLES, len(gains)))
    low, high = np.quantile(gains[drawn].mean(axis=1), [0.025, 0.975])
    return {
        "difference": float(gains.mean()),
        "ci95": [float(low), float(high)],
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "n_tasks": len(gains),
    }


def export(played: Played, path: Path) -> int:
    """Write the leaderboard's file: a line for every task, with the answer voted for, empty where there is none.

    Returns:
        how many tasks have an answer.
    """
    lines = []
    for task in played.tasks:
        answer, trace = majority(played.of(task)), _trace(played.of(task))
        lines.append({"task_id": task.task_id, "model_answer": answer or "", "reasoning_trace": trace})
    publish_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return sum(bool(line["model_answer"]) for line in lines)


def _trace(episodes: list[Episode]) -> str:
    """What the policy said in the first attempt that gave the answer voted for."""
    answer = majority(episodes)
    first = next((e for e in sorted(episodes, key=lambda e: e.attempt) if e.answer == answer), None)
    return "\n".join(turn.text for turn in first.turns if turn.role == "assistant") if first else ""


def _means(played: Played) -> dict[str, float]:
    return {task.task_id: 0.0 for task in played.tasks} | statistics.task_means(played.episodes, played.attempts)


def _pass_at(played: Played, k: int) -> float:
    right = [sum(episode.reward >= 1 for episode in played.of(task)) for task in played.tasks]
    return float(np.mean([statistics.pass_at_k(played.attempts, count, k) for count in right]))


def _normal(answer: str) -> str:
    return " ".join(answer.casefold().split()).strip(string.punctuation + string.whitespace)


def _spread(values: Iterable[float]) -> dict[str, float]:
    found = np.array(list(values) or [0.0], float)
    return {"mean": float(found.mean()), "median": float(np.median(found)), "max": float(found.max())}
