"""`report.json` and `report.html`: what a run learned, read from its files, also while it is under way."""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aworld.config import Config, read_provenance, to_yaml
from aworld.errors import InputError
from aworld.evaluation import benchmark, plots, statistics
from aworld.evaluation.figures import tool_calls
from aworld.evaluation.pages import publish_page
from aworld.publish import publish_json
from aworld.rundir import HELD_OUT, RunDir, numbered
from aworld.trajectories import arrays, file, journal, record
from aworld.trajectories.episode import Episode

SAMPLES = 3  # readable episodes of each kind
METRICS = ("loss", "grad_norm", "clip_fraction", "entropy", "kl", "mismatch_mean", "mismatch_max")


@dataclass(frozen=True)
class _Evaluated:
    """A policy that has finished an evaluation: its figures, for report.json, and the mean reward of each task."""

    figures: dict[str, Any]
    means: dict[str, float]


def report(config: Config, run: RunDir) -> dict[str, Any]:
    """Write both files into the run directory and return what is in report.json."""
    evaluations = _evaluations(run)
    figures = {
        "name": config.name,
        "seed": config.seed,
        "trained_on": f"{config.tasks.source}-{config.tasks.split}" if config.tasks.purpose == "train" else None,
        "evaluation": _before_and_after(evaluations.get(HELD_OUT, [])),
        "evaluations": {name: [one.figures for one in each] for name, each in evaluations.items()},
        "rounds": [figures for number in _rounds(run) if (figures := _round(run, number))],
        "sandbox": sandbox(run.root),
        "provenance": read_provenance(run.config),
    }
    publish_json(run.root / "report.json", figures)
    page = {
        "figures": figures,
        "plots": plots.draw(figures),
        "samples": _samples(run),
        "configuration": to_yaml(config),
    }
    publish_page(run.root / "report.html", "report.html.j2", page)
    return figures


def sandbox(folder: Path) -> dict[str, Any]:
    """The sandbox that tools ran in: its name and gaps. Empty before one started."""
    return _json(folder / "sandbox.json")


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
    episodes = [each for each in journal.records(folder / "journals") if each.task_id in levels]
    figures = statistics.evaluation(episodes, levels, attempts)
    means = dict.fromkeys(levels, 0.0) | statistics.task_means(episodes, attempts)
    parts = {"reward_parts": record.rewards(episodes)["parts"]}
    return _Evaluated({"policy": int(folder.name), **figures, **parts, "tools": tool_calls(episodes)}, means)


def _before_and_after(held_out: list[_Evaluated]) -> dict[str, Any]:
    """`before` is the first policy evaluated, `after` the last one, once there are two, `difference` that of both."""
    named = dict(zip(("before", "after"), [*held_out[:1], *held_out[1:][-1:]], strict=False))
    found: dict[str, Any] = {key: one.figures for key, one in named.items()}
    if len(named) == 2:
        found["difference"] = statistics.difference(*(one.means for one in named.values()))
    return found


def _rounds(run: RunDir) -> list[int]:
    return [int(p.name) for p in numbered(run.root / "rounds") if (p / "trajectories.h5").exists()]


def _round(run: RunDir, number: int) -> dict[str, Any] | None:
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


def _samples(run: RunDir) -> list[tuple[str, list[Episode]]]:
    """Some right and some wrong episodes of the first and the last evaluation."""
    folders = numbered(run.evaluation(HELD_OUT, 0).parent)
    groups = []
    for title, folder in zip(("before", "after"), dict.fromkeys([*folders[:1], *folders[-1:]]), strict=False):
        played = journal.by_identity(journal.listed_in(folder / "journals"))
        played.sort(key=lambda candidates: (-candidates[0].record.level, candidates[0].record.identity))
        for kind, reward in (("right", 1.0), ("wrong", 0.0)):
            chosen = [candidates for candidates in played if candidates[0].record.reward == reward]
            spread = chosen[:: max(1, len(chosen) // SAMPLES)][:SAMPLES]  # over the levels
            groups.append((f"{title} training, {kind}", [*filter(None, map(journal.first_sound, spread))]))
    return groups


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
