"""Figures with intervals: pass@1 of an evaluation, pass@k, and the paired difference of two evaluations.

Intervals are 95 %, normal, with the standard error clustered by task: the attempts at one task are not independent,
so the task is the unit (Miller, "Adding Error Bars to Evals", arXiv 2411.00640). A few tasks with
equal outcomes have a spread near 0 and would look certain. So each interval counts imaginary tasks as well: two right
and two wrong for one evaluation (Agresti and Coull, 1998), one gained and one lost for a difference (Bonett and Price,
2012). With hundreds of tasks they hardly count. An attempt that failed or is missing counts as 0.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aworld.errors import InputError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Outcome

Z95 = 1.959963984540054
IMAGINED = (0.0, 0.0, 1.0, 1.0)
IMAGINED_DIFFERENCES = (-1.0, 1.0)
PASS_AT_1, MEAN_REWARD = "pass@1", "mean reward"


def task_means(episodes: Iterable[Outcome], attempts: int) -> dict[str, float]:
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


def evaluation(episodes: Sequence[Outcome], levels: dict[str, int], attempts: int) -> dict[str, Any]:
    """Figures of one evaluation, for report.json.

    `ci95` is of `mean_reward`. `pass_at_1` is the share of attempts with reward 1. `measure` is "pass@1" where the two
    are the same, and "mean reward" where an answer was worth a part of 1. `failures` counts the attempts without reward
    by status; `wrong_answer` is answered but wrong, `missing` is not recorded at all.

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
    passed = Counter(e.task_id for e in episodes if e.reward >= 1)

    def scores(tasks: list[str]) -> dict[str, Any]:
        mean, ci95 = score(np.array([means[task] for task in tasks]))
        passes = sum(passed[task] for task in tasks) / (len(tasks) * attempts)
        return {"mean_reward": mean, "ci95": ci95, "pass_at_1": passes, "n_tasks": len(tasks)}

    by_level = {
        str(level): scores([task for task in levels if levels[task] == level]) for level in sorted(set(levels.values()))
    }
    failures = Counter("wrong_answer" if e.status == "answered" else e.status for e in episodes if e.reward <= 0)
    failures["missing"] = len(levels) * attempts - len(episodes)
    return {
        **scores(list(levels)),
        "measure": measure(episodes),
        "attempts": attempts,
        "by_level": by_level,
        "failures": {status: n for status, n in sorted(failures.items()) if n},
        "policy_version": max((episode.policy_version for episode in episodes), default=None),
    }


def score(means: np.ndarray) -> tuple[float, list[float]]:
    """The mean of float [n] task means, and its interval, within [0, 1]."""
    _, (low, high) = mean_ci95(np.concatenate([means, IMAGINED]))
    return float(means.mean()), [max(0.0, low), min(1.0, high)]


def measure(episodes: Iterable[Outcome]) -> str:
    """The name of their mean reward: pass@1, unless some answer was worth a fraction of 1."""
    return PASS_AT_1 if all(episode.reward in (0.0, 1.0) for episode in episodes) else MEAN_REWARD


def headline(tasks: list[Task], episodes: Sequence[Outcome], attempts: int) -> str:
    """The mean reward by its name in one phrase; without gold answers, how many attempts have an answer."""
    if not (scored := {task.task_id for task in tasks if not task.is_withheld}):
        answered = sum(episode.has_answer for episode in episodes)
        return f"{answered} of {len(tasks) * attempts} attempts answered; no gold answers are here"
    counted = [episode for episode in episodes if episode.task_id in scored]
    mean = sum(episode.reward for episode in counted) / (len(scored) * attempts)
    return f"{measure(counted)} {100 * mean:.1f} %"


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """The mean over tasks of after minus before, and its interval within [-1, 1].

    Raises:
        InputError: the tasks are not the same.
    """
    if not before or before.keys() != after.keys():
        raise InputError(f"{len(before)} and {len(after)} tasks cannot be paired; evaluate both on the same tasks")
    gains = np.array([after[task] - before[task] for task in before])
    _, (low, high) = mean_ci95(np.concatenate([gains, IMAGINED_DIFFERENCES]))
    return {"mean": float(gains.mean()), "ci95": [max(-1.0, low), min(1.0, high)]}


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that one of k attempts is right, from `correct` right ones of n (arXiv 2107.03374, eq. 1)."""
    if not 0 < k <= n:
        raise InputError(f"pass@{k} needs at least {k} attempts, there are {n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)
