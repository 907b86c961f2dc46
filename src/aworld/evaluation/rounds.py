"""The figures of one round and of one evaluation, from their own files. A page shows them, and trackers log them."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aworld.evaluation import statistics
from aworld.evaluation.figures import tool_calls
from aworld.rundir import RunDir
from aworld.trajectories import arrays, file, journal, record

METRICS = ("loss", "grad_norm", "clip_fraction", "entropy", "kl", "mismatch_mean", "mismatch_max")


@dataclass(frozen=True)
class Evaluated:
    """A policy that has finished an evaluation: its figures, for report.json, and the mean reward of each task."""

    figures: dict[str, Any]
    means: dict[str, float]


def evaluated(folder: Path, levels: dict[str, int], attempts: int) -> Evaluated:
    """The figures of an evaluation in the folder of its policy.

    Args:
        levels: of each task whose gold answer is known.
        attempts: at each task.
    """
    episodes = [each for each in journal.records(folder / "journals") if each.task_id in levels]
    figures = statistics.evaluation(episodes, levels, attempts)
    means = dict.fromkeys(levels, 0.0) | statistics.task_means(episodes, attempts)
    parts = {"reward_parts": record.rewards(episodes)["parts"]}
    return Evaluated({"policy": int(folder.name), **figures, **parts, "tools": tool_calls(episodes)}, means)


def round_figures(run: RunDir, number: int) -> dict[str, Any] | None:
    """The figures of a gathered round; None: it has no episodes. Those of its training are None before its end.

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


def _groups(table: np.ndarray) -> dict[str, int]:
    """The number of groups, and of those whose episodes all have the same reward and so no advantage."""
    tasks = table["task_id"]
    rewards = [table["reward"][tasks == task] for task in np.unique(tasks)]
    return {"n_groups": len(rewards), "n_zero_variance": sum(bool(np.ptp(group) == 0) for group in rewards)}


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
