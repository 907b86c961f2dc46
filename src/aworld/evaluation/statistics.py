"""What an evaluation says, and how sure it is.

The unit of sampling is the task: attempts at one task are not independent, so every error is taken over task means.
An attempt that failed or was never recorded counts as reward 0.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from aworld.errors import InputError

Z95 = 1.959964  # two-sided 95 % quantile of the normal distribution


class Scored(Protocol):
    """What statistics need of an episode; `Episode` is one."""

    @property
    def task_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def reward(self) -> float: ...
    @property
    def status(self) -> str: ...


@dataclass(frozen=True)
class Evaluation:
    """The outcome of the same number of attempts at each of some tasks.

    Attributes:
        rewards: task_id → float64 [attempts], 0 where an attempt is missing.
        levels: task_id → difficulty.
        failures: how many attempts ended in each way other than a right answer; `wrong_answer` is answered but wrong,
            `missing` not recorded at all.
    """

    rewards: dict[str, np.ndarray]
    levels: dict[str, int]
    failures: dict[str, int]

    @property
    def means(self) -> dict[str, float]:
        """Task id → mean reward over its attempts."""
        return {task: float(rewards.mean()) for task, rewards in self.rewards.items()}


def evaluation(episodes: Iterable[Scored], attempts: int, expected: Mapping[str, int] | None = None) -> Evaluation:
    """Arrange episodes, at most one per (task_id, attempt), by task.

    Args:
        attempts: how many every task should have.
        expected: task_id → level of all tasks that should be there; None: those that are.

    Raises:
        InputError: an episode appears twice, has an attempt number beyond `attempts`, or is of a task not expected.
    """
    levels = dict(expected or {})
    rewards = {task: np.zeros(attempts) for task in levels}
    seen: set[tuple[str, int]] = set()
    failures: Counter[str] = Counter()
    for e in episodes:
        if expected is not None and e.task_id not in expected:
            raise InputError(f"task {e.task_id} is not among the {len(expected)} tasks of this evaluation")
        if (e.task_id, e.attempt) in seen or not 0 <= e.attempt < attempts:
            raise InputError(f"attempt {e.attempt} of task {e.task_id}: there twice, or not one of {attempts}")
        seen.add((e.task_id, e.attempt))
        levels.setdefault(e.task_id, e.level)
        rewards.setdefault(e.task_id, np.zeros(attempts))[e.attempt] = e.reward
        if e.reward <= 0:
            failures["wrong_answer" if e.status == "answered" else e.status] += 1
    if missing := attempts * len(rewards) - len(seen):
        failures["missing"] = missing
    return Evaluation(rewards, levels, dict(sorted(failures.items())))


def mean_ci95(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over tasks, and its 95 % confidence interval (low, high) by the normal approximation.

    With equally many attempts per task this is the standard error clustered by task (Miller 2024, arXiv 2411.00640,
    section 2.2) with the T / (T - 1) correction for a small number of tasks T; one task gives no error: (nan, nan).
    """
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, math.nan, math.nan
    half = Z95 * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half


def pass_at_1(task_means: Sequence[float]) -> dict[str, Any]:
    """Mean over tasks of the mean over attempts: {"pass_at_1", "ci95": [low, high] within [0, 1], "n_tasks"}.

    Where every attempt came out alike the observed spread is 0 and says nothing: the bound is then Clopper and
    Pearson's, with each task counted once.
    """
    mean, low, high = mean_ci95(task_means)
    exact = 0.025 ** (1 / len(task_means))
    if mean in (0.0, 1.0):
        low, high = (exact, 1.0) if mean == 1.0 else (0.0, 1.0 - exact)
    elif math.isnan(low):
        low, high = 0.0, 1.0
    return {"pass_at_1": mean, "ci95": [max(0.0, low), min(1.0, high)], "n_tasks": len(task_means)}


def pass_at_k(rewards: Mapping[str, np.ndarray], k: int) -> float:
    """Chance that at least one of k attempts is right: mean over tasks of 1 - C(n - c, k) / C(n, k), unbiased.

    n attempts of which c are right; Chen et al. 2021, arXiv 2107.03374, equation 1.

    Raises:
        InputError: a task has fewer than k attempts.
    """
    chances = []
    for task, row in rewards.items():
        n, right = len(row), int((row > 0).sum())
        if not 1 <= k <= n:
            raise InputError(f"pass@{k} of task {task}: it has {n} attempts; choose k from 1 to {n}")
        chances.append(1 - math.comb(n - right, k) / math.comb(n, k))
    return float(np.mean(chances))


def difference(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Paired by task, over the tasks of both: {"mean", "ci95": [low, high] within [-1, 1], "n_tasks"}.

    Raises:
        InputError: they share no task.
    """
    one, other = before.means, after.means
    both = sorted(one.keys() & other.keys())
    if not both:
        raise InputError("the two evaluations share no task; evaluate both policies on the same tasks")
    mean, low, high = mean_ci95([other[task] - one[task] for task in both])
    if math.isnan(low):
        low, high = -1.0, 1.0
    return {"mean": mean, "ci95": [max(-1.0, low), min(1.0, high)], "n_tasks": len(both)}


def summary(result: Evaluation, policy_version: int) -> dict[str, Any]:
    """The evaluation in the shape of report.json."""
    means = result.means
    by_level: dict[int, list[float]] = {}
    for task, level in result.levels.items():
        by_level.setdefault(level, []).append(means[task])
    attempts = len(next(iter(result.rewards.values())))
    return {
        **pass_at_1(list(means.values())),
        "attempts": attempts,
        "pass_at_k": {str(k): pass_at_k(result.rewards, k) for k in sorted({1, attempts})},
        "by_level": {str(level): pass_at_1(by_level[level]) for level in sorted(by_level)},
        "failures": result.failures,
        "policy_version": policy_version,
    }
