"""The figures of one round and of one evaluation, from their own files. A page shows them, and trackers log them."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aworld.evaluation import statistics
from aworld.evaluation.figures import tool_calls
from aworld.evaluation.pages import WITHIN
from aworld.rundir import RunDir
from aworld.trajectories import arrays, file, journal, record
from aworld.trajectories.frames import TOKEN_BYTES

METRICS = ("loss", "grad_norm", "clip_fraction", "entropy", "kl", "mismatch_mean", "mismatch_max")


@dataclass(frozen=True)
class Evaluated:
    """A policy that has finished an evaluation.

    Attributes:
        figures: for report.json.
        means: the mean reward of each task.
        is_small: whether a page holds the texts of its episodes.
    """

    figures: dict[str, Any]
    means: dict[str, float]
    is_small: bool


def evaluated(folder: Path, levels: dict[str, int], attempts: int) -> Evaluated:
    """The figures of an evaluation in the folder of its policy.

    Args:
        levels: of each task whose gold answer is known.
        attempts: at each task.
    """
    records = journal.records(folder / "journals")
    episodes = [each for each in records if each.task_id in levels]
    figures = statistics.evaluation(episodes, levels, attempts)
    means = dict.fromkeys(levels, 0.0) | statistics.task_means(episodes, attempts)
    parts = {"reward_parts": record.rewards(episodes)["parts"]}
    size = sum(path.stat().st_size for path in folder.glob("journals/*.journal"))
    text = size - TOKEN_BYTES * sum(each.tokens for each in records)
    named = {"policy": int(folder.name), **figures, **parts, "tools": tool_calls(episodes)}
    return Evaluated(named, means, is_small=text <= WITHIN)


def round_figures(run: RunDir, number: int, sources: list[str]) -> dict[str, Any] | None:
    """The figures of a gathered round; None: it has no episodes. Those of its training are None before its end.

    Args:
        sources: the names of the parts of a mixture; empty: there is one source.

    Raises:
        InfrastructureError: its trajectories are damaged, or gone.
    """
    folder = run.round(number)
    trajectories = file.open_(run.trajectories(number))
    table = trajectories.episodes
    if not len(table):
        return None
    sampled = np.diff(arrays.offsets_of(trajectories.sequences["sampled"])[trajectories.context_offsets])
    names = ("metrics", "timing", "tools", "rewards")
    metrics, timing, tools, rewards = (read_json(folder / f"{name}.json") for name in names)
    seconds = {key.removesuffix("_seconds"): value for key, value in timing.items()}
    seconds |= {key: value for key, value in metrics.pop("seconds", {}).items() if key != "wait"}
    return {
        "round": number,
        "reward": float(table["reward"].mean()),
        "reward_by_source": _by_source(table, sources),
        "length_mean": float(sampled.mean()),
        "length_max": int(sampled.max()),
        "turns": float(table["turns"].mean()),
        "n_episodes": len(table),
        "statuses": {status.decode(): n for status, n in sorted(Counter(table["status"].tolist()).items())},
        "seconds": seconds,
        **_groups(table),
        "reward_parts": rewards.get("parts", {}),
        "not_scored": sum(rewards.get("not_scored", {}).values()),
        "tool_calls": tools.get("calls"),
        "tool_errors": tools.get("errors"),
        "tokens_per_second": _rate(sampled.sum(), seconds.get("rollout")),
        "trained_tokens_per_second": _rate(metrics.get("tokens_trained"), seconds.get("train")),
        "episode_time": _shares(table),
        **{key: metrics.get(key) for key in METRICS},
    }


def _groups(table: np.ndarray) -> dict[str, Any]:
    """The number of groups, of those whose episodes all have the same reward and so no advantage, and the interval of
    the mean reward, by group."""
    tasks = table["task_id"]
    rewards = [table["reward"][tasks == task] for task in np.unique(tasks)]
    return {
        "n_groups": len(rewards),
        "n_zero_variance": sum(bool(np.ptp(group) == 0) for group in rewards),
        "reward_ci95": statistics.score(np.array([group.mean() for group in rewards], float))[1],
    }


def _by_source(table: np.ndarray, sources: list[str]) -> dict[str, float]:
    """The mean reward of the tasks of each source of a mixture."""
    of = np.array([name.partition(b"/")[0].decode() for name in table["task_id"]])
    return {name: float(table["reward"][of == name].mean()) for name in sources if (of == name).any()}


def _rate(tokens: float | None, seconds: float | None) -> float | None:
    return float(tokens) / seconds if tokens is not None and seconds else None


def _shares(table: np.ndarray) -> dict[str, float]:
    """Shares of the episodes' time, 0 to 1: waiting for a sandbox, generating, tools, and the rest."""
    spent = {phase: float(table[f"seconds_{phase}"].sum()) for phase in arrays.PHASES}
    whole = spent["wait"] + spent["total"]
    rest = spent["total"] - spent["generate"] - spent["tools"]  # below 0 where several agents are at work at once
    parts = {"wait": spent["wait"], "generate": spent["generate"], "tools": spent["tools"], "rest": max(rest, 0.0)}
    return {phase: value / whole for phase, value in parts.items()} if whole else {}


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}
