"""`report.json` and `report.html`: what a run learned, read from its files, also while it is under way."""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aworld.config import Config, read_provenance
from aworld.errors import InputError
from aworld.evaluation import benchmark, run_page, statistics
from aworld.evaluation.about import sandbox
from aworld.evaluation.figures import tool_calls
from aworld.evaluation.pages import WITHIN
from aworld.publish import publish_json
from aworld.rundir import HELD_OUT, RunDir, numbered
from aworld.trajectories import arrays, file, journal, record
from aworld.trajectories.frames import TOKEN_BYTES

TABLES = 10  # rounds to look for a table of measured tasks in; only the last few are kept
METRICS = ("loss", "grad_norm", "clip_fraction", "entropy", "kl", "mismatch_mean", "mismatch_max")


@dataclass(frozen=True)
class _Evaluated:
    """A policy that has finished an evaluation.

    Attributes:
        figures: for report.json.
        means: the mean reward of each task.
        is_small: whether a page holds the texts of its episodes.
    """

    figures: dict[str, Any]
    means: dict[str, float]
    is_small: bool


def report(config: Config, run: RunDir) -> dict[str, Any]:
    """Write both files into the run directory and return what is in report.json."""
    evaluations, numbers = _evaluations(run), _rounds(run)
    rounds = [found for number in numbers if (found := _round(run, number, list(config.tasks.mixture)))]
    figures = {
        "name": config.name,
        "seed": config.seed,
        "trained_on": f"{config.tasks.source}-{config.tasks.split}" if config.tasks.purpose == "train" else None,
        "evaluation": _before_and_after(evaluations.get(HELD_OUT, [])),
        "evaluations": {name: [one.figures for one in each] for name, each in evaluations.items()},
        "rounds": rounds,
        "curriculum": _curriculum(run, numbers),
        "sandbox": sandbox(run.root),
        "provenance": read_provenance(run.config),
    }
    publish_json(run.root / "report.json", figures)
    small = [(name, one.figures["policy"]) for name, each in evaluations.items() for one in each if one.is_small]
    run_page.publish(config, run, figures, small)
    return figures


def _evaluations(run: RunDir) -> dict[str, list[_Evaluated]]:
    """By name of an evaluation: each policy that has finished it, in order. Left out are those without gold answers,
    and, with a warning, benchmarks whose tasks cannot be read any more."""
    found = {}
    for name in [HELD_OUT, *sorted(path.parent.name for path in (run.root / "evals").glob("*/config.yaml"))]:
        try:
            config, _, source = benchmark.read(run, name)
            levels = {task.task_id: task.level for task in source.tasks("held_out") if task.answer is not None}
        except InputError as reason:
            print(f"warning: {name} is left out: {reason}", file=sys.stderr)
            continue
        folders = [p for p in numbered(run.evaluation(name, 0).parent) if (p / "timing.json").exists()]
        if levels and folders:
            found[name] = [_evaluated(folder, levels, config.evaluation.attempts) for folder in folders]
    return found


def _evaluated(folder: Path, levels: dict[str, int], attempts: int) -> _Evaluated:
    records = journal.records(folder / "journals")
    episodes = [each for each in records if each.task_id in levels]
    figures = statistics.evaluation(episodes, levels, attempts)
    means = dict.fromkeys(levels, 0.0) | statistics.task_means(episodes, attempts)
    parts = {"reward_parts": record.rewards(episodes)["parts"]}
    size = sum(path.stat().st_size for path in folder.glob("journals/*.journal"))
    text = size - TOKEN_BYTES * sum(each.tokens for each in records)
    named = {"policy": int(folder.name), **figures, **parts, "tools": tool_calls(episodes)}
    return _Evaluated(named, means, is_small=text <= WITHIN)


def _before_and_after(held_out: list[_Evaluated]) -> dict[str, Any]:
    """`before` is the first policy evaluated, `after` the last one, once there are two, `difference` that of both."""
    named = dict(zip(("before", "after"), [*held_out[:1], *held_out[1:][-1:]], strict=False))
    found: dict[str, Any] = {key: one.figures for key, one in named.items()}
    if len(named) == 2:
        found["difference"] = statistics.difference(*(one.means for one in named.values()))
    return found


def _rounds(run: RunDir) -> list[int]:
    return [int(p.name) for p in numbered(run.root / "rounds") if (p / "trajectories.h5").exists()]


def _round(run: RunDir, number: int, sources: list[str]) -> dict[str, Any] | None:
    folder = run.round(number)
    trajectories = file.open_(run.trajectories(number))
    table = trajectories.episodes
    if not len(table):
        return None
    sampled = np.diff(arrays.offsets_of(trajectories.sequences["sampled"])[trajectories.context_offsets])
    names = ("metrics", "timing", "tools", "rewards")
    metrics, timing, tools, rewards = (_json(folder / f"{name}.json") for name in names)
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


def _curriculum(run: RunDir, rounds: list[int]) -> dict[str, int]:
    """What the newest table of measured tasks says: the number of tasks, and of those that were never or always solved.
    Empty without a curriculum."""
    for number in reversed(rounds[-TABLES:]):
        if rows := _json(run.round(number) / "measured.json"):
            means = [reward for _, _, reward, _ in rows.values()]
            never, always = sum(mean <= 0 for mean in means), sum(mean >= 1 for mean in means)
            return {"round": number, "n_tasks": len(rows), "n_never": never, "n_always": always}
    return {}


def _rate(tokens: float | None, seconds: float | None) -> float | None:
    return float(tokens) / seconds if tokens is not None and seconds else None


def _shares(table: np.ndarray) -> dict[str, float]:
    """Shares of the episodes' time, 0 to 1: waiting for a sandbox, generating, tools, and the rest."""
    spent = {phase: float(table[f"seconds_{phase}"].sum()) for phase in arrays.PHASES}
    whole = spent["wait"] + spent["total"]
    rest = spent["total"] - spent["generate"] - spent["tools"]  # below 0 where several agents are at work at once
    parts = {"wait": spent["wait"], "generate": spent["generate"], "tools": spent["tools"], "rest": max(rest, 0.0)}
    return {phase: value / whole for phase, value in parts.items()} if whole else {}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
