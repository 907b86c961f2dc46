"""What an evaluation says, and how sure it is: pass@1, pass@k, and the paired difference of two evaluations.

Intervals are 95 %, normal, with the standard error clustered by task: the attempts at one task are not independent,
so the task is the unit (Miller, "Adding Error Bars to Evals", arXiv 2411.00640). An attempt that failed or is missing
counts as 0.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from aworld.errors import InputError
from aworld.trajectories.episode import Episode

Z95 = 1.959963984540054


def task_means(episodes: Iterable[Episode], attempts: int) -> dict[str, float]:
    """Mean reward of each task over `attempts`; an attempt that is missing counts as 0.

    Raises:
        InputError: an attempt is there twice, or is not one of `attempts`.
    """
    rewards: dict[str, dict[int, float]] = {}
    for e in episodes:
        row = rewards.setdefault(e.task_id, {})
        if e.attempt in row or not 0 <= e.attempt < attempts:
            raise InputError(f"attempt {e.attempt} of task {e.task_id} is there twice, or is not one of {attempts}")
        row[e.attempt] = e.reward
    return {task: sum(row.values()) / attempts for task, row in rewards.items()}


def mean_ci95(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The mean of float [n] task values and its interval; with one task the interval says nothing: ±∞."""
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean, (mean - Z95 * error, mean + Z95 * error)


def evaluation(episodes: list[Episode], levels: dict[str, int], attempts: int) -> dict[str, Any]:
    """Figures of one evaluation, for report.json.

    `failures` counts the attempts without reward by status; `wrong_answer` is answered but wrong, `missing` is not
    recorded at all.

    Args:
        levels: the level of every task that was to be played, at least one; one without an episode counts as 0.
        attempts: per task that were to be played.

    Raises:
        InputError: an episode is there twice, or belongs to no task or attempt that was to be played.
    """
    played = task_means(episodes, attempts)
    if foreign := played.keys() - levels.keys():
        raise InputError(f"task {min(foreign)} is not among the {len(levels)} tasks of this evaluation")
    means = dict.fromkeys(levels, 0.0) | played
    by_level = {
        str(level): _pass_at_1([means[task] for task in levels if levels[task] == level])
        for level in sorted(set(levels.values()))
    }
    failures = Counter("wrong_answer" if e.status == "answered" else e.status for e in episodes if e.reward <= 0)
    failures["missing"] = len(levels) * attempts - len(episodes)
    return {
        **_pass_at_1(list(means.values())),
        "attempts": attempts,
        "by_level": by_level,
        "failures": {status: n for status, n in sorted(failures.items()) if n},
        "policy_version": max((episode.policy_version for episode in episodes), default=None),
    }


def _pass_at_1(values: list[float]) -> dict[str, Any]:
    """Where every attempt came out alike the spread is 0 and says nothing: Clopper and Pearson's bound stands in."""
    mean, (low, high) = mean_ci95(np.array(values))
    exact = 0.025 ** (1 / len(values))  # with each task counted once
    if mean == 0.0:
        low, high = 0.0, 1.0 - exact
    elif mean == 1.0:
        low, high = exact, 1.0
    return {"pass_at_1": mean, "ci95": [max(0.0, low), min(1.0, high)], "n_tasks": len(values)}


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """After minus before, paired by task, of the means of the same tasks; the interval is within [-1, 1].

    Raises:
        InputError: the tasks are not the same.
    """
    if not before or before.keys() != after.keys():
        raise InputError(f"{len(before)} and {len(after)} tasks cannot be paired; evaluate both on the same tasks")
    mean, (low, high) = mean_ci95(np.array([after[task] - before[task] for task in before]))
    return {"mean": mean, "ci95": [max(-1.0, low), min(1.0, high)]}


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that one of k attempts is right, from `correct` right ones of n (arXiv 2107.03374, eq. 1)."""
    if not 0 < k <= n:
        raise InputError(f"pass@{k} needs at least {k} attempts, there are {n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)
