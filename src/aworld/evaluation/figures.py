"""Figures of a benchmark's episodes. Every task and attempt asked for counts, played or not."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from aworld.errors import InputError
from aworld.evaluation import statistics
from aworld.evaluation.attempt import Attempt
from aworld.evaluation.benchmark import Played
from aworld.tasks.scoring import vote_key
from aworld.trajectories.episode import Episode, Outcome
from aworld.trajectories.record import Record

Answered = TypeVar("Answered", Attempt, Episode)
LIMITS = ("max_turns", "max_tokens")  # with an answer: given in the last turn


def figures(played: Played[Attempt]) -> dict[str, Any]:
    """For report.json: pass@1 with its interval and by level, pass@k, majority vote, and the cost.

    `n_withheld` tasks have no gold answer. They are in no score; where all are such, there is none: `measure` is None.
    `last_turn` counts the answers that were given at a limit.
    """
    withheld = {task.task_id for task in played.tasks if task.is_withheld}
    return {
        **_scores(played, withheld),
        "n_asked": len(played.tasks),
        "n_withheld": len(withheld),
        "n_answered": sum(episode.answer is not None for episode in played.episodes),
        "n_missing": played.missing,
        "last_turn": sum(e.answer is not None and e.status in LIMITS for e in played.episodes),
        "tokens": _spread(e.sampled for e in played.episodes),
        "turns": _spread(e.turns for e in played.episodes),
        "seconds": _spread(episode.seconds.get("total", 0.0) for episode in played.episodes),
        "tools": tool_calls(played.episodes),
    }


def tool_calls(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """For each tool, the number of its calls and of those that returned errors."""
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        calls.update({name: count for name, (count, _) in outcome.tools.items()})
        errors.update({name: count for name, (_, count) in outcome.tools.items()})
    return {name: {"calls": calls[name], "errors": errors[name]} for name in sorted(calls)}


def _scores(played: Played[Attempt], withheld: set[str]) -> dict[str, Any]:
    """Figures of the tasks whose gold answers are known.

    `pass_at_k[k - 1]` is the unbiased pass@k over all attempts. An attempt passes if its reward is 1.
    """
    levels = {task.task_id: task.level for task in played.tasks if task.task_id not in withheld}
    if not levels:
        failures = Counter(e.status for e in played.episodes if e.answer is None)
        return {"measure": None, "attempts": played.attempts, "failures": dict(sorted(failures.items()))}
    of_task = by_task(played)
    votes = [voted(of_task[task]) for task in levels]
    return {
        **statistics.evaluation([e for e in played.episodes if e.task_id not in withheld], levels, played.attempts),
        "pass_at_k": _pass_at_k([sum(e.reward >= 1 for e in of_task[task]) for task in levels], played.attempts),
        "majority": float(np.mean([episode.reward if episode else 0.0 for episode in votes])),  # as it was judged once
    }


def by_task(played: Played[Attempt]) -> dict[str, list[Attempt]]:
    """The episodes of each task asked for, in the order of the tasks; an empty list where there are none."""
    found: dict[str, list[Attempt]] = {task.task_id: [] for task in played.tasks}
    for episode in played.episodes:
        found.setdefault(episode.task_id, []).append(episode)
    return found


def voted(episodes: Iterable[Answered]) -> Answered | None:
    """The first attempt with the most frequent answer; of equals, the first given. None: no answer."""
    in_order = sorted(episodes, key=lambda e: e.attempt)
    # what nobody could score has no vote
    answered = [(vote_key(e.answer), e) for e in in_order if e.answer is not None and e.status != "infra_error"]
    votes = Counter(key for key, _ in answered)
    return max(answered, key=lambda one: votes[one[0]], default=(None, None))[1]  # max takes the first of equals


def compare(one: Played[Record], other: Played[Record]) -> dict[str, Any]:
    """Mean reward of `other` minus that of `one`, paired by task, with its interval: `statistics.difference`.

    Raises:
        InputError: their tasks are not the same, or their answers are withheld.
    """
    asked, also = ({task.task_id: task.question for task in played.tasks} for played in (one, other))
    if asked != also:
        alike = len(asked.items() & also.items())
        raise InputError(
            f"tasks that are not the same cannot be paired: {len(asked)} and {len(also)}, of which {alike} are in both"
        )
    before, after = (_means(played) for played in (one, other))
    if not before:
        raise InputError(f"the gold answers of these {len(asked)} tasks are not here; without them nothing is compared")
    return {
        "measure": statistics.measure([*one.episodes, *other.episodes]),
        **statistics.difference(before, after),
        "better": sum(after[task] > before[task] for task in before),
        "worse": sum(after[task] < before[task] for task in before),
        "n_tasks": len(before),
    }


def _means(played: Played[Record]) -> dict[str, float]:
    """The mean reward of each task whose gold answer is known."""
    means = statistics.task_means(played.episodes, played.attempts)
    return {task.task_id: means.get(task.task_id, 0.0) for task in played.tasks if not task.is_withheld}


def _pass_at_k(right: list[int], attempts: int) -> list[float]:
    """`right` counts, for each task, its attempts that passed."""
    return [
        float(np.mean([statistics.pass_at_k(attempts, count, k) for count in right])) for k in range(1, attempts + 1)
    ]


def _spread(values: Iterable[float]) -> dict[str, float]:
    found = np.array(list(values) or [0.0], float)
    return {"mean": float(found.mean()), "median": float(np.median(found)), "max": float(found.max())}
