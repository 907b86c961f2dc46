"""The figures of one round or one evaluation under the names that trackers show. docs/trackers.md lists them."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from aworld.config import Config
from aworld.config.walk import every_setting
from aworld.evaluation import benchmark
from aworld.evaluation.rounds import evaluated, read_json, round_figures
from aworld.planning import hardware
from aworld.planning.shapes import summed_flops
from aworld.rundir import RunDir
from aworld.trajectories import journal

TRAINING = (
    *("loss", "grad_norm", "entropy", "kl", "mismatch_mean", "mismatch_max", "clip_fraction", "ratio"),
    *("reference_kl", "masked_fraction", "steps", "repeats"),
)
SHOWN = (  # beginnings of settings that decide the figures, and hold no secrets
    *("seed", "rollout.", "training.", "model.name", "model.path", "tasks.source"),
    *("pipeline.rounds", "pipeline.max_lag"),
)
HIDDEN = ("training.cold_start.teacher.", "training.cold_start.conversations")  # addresses, variables and paths


def settings(config: Config) -> dict[str, object]:
    """The settings that a tracker shows beside the figures, by their full names."""
    return {
        one.name: one.value
        for one in every_setting(config)
        if one.name.startswith(SHOWN) and not one.name.startswith(HIDDEN)
    }


def of_round(config: Config, run: RunDir, number: int) -> dict[str, float]:
    """The figures of a trained round; those that it does not have are left out.

    Raises:
        InfrastructureError: its trajectories are damaged, or gone.
    """
    found = round_figures(run, number, list(config.tasks.mixture))
    if not found:
        return {}
    metrics = read_json(run.round(number) / "metrics.json")
    groups, calls = found["n_groups"], found["tool_calls"]
    return _finite(
        {
            **{f"train/{name}": metrics.get(name) for name in TRAINING},
            "train/tokens": metrics.get("tokens_trained"),
            "reward/mean": found["reward"],
            **{f"reward/{name}": value for name, value in found["reward_parts"].items() if name != "mean"},
            **{f"reward/of_{source}": value for source, value in found["reward_by_source"].items()},
            "reward/not_scored": found["not_scored"],
            "episodes/number": found["n_episodes"],
            "episodes/tokens_mean": found["length_mean"],
            "episodes/tokens_max": found["length_max"],
            "episodes/turns": found["turns"],
            **{f"episodes/{status}": n / found["n_episodes"] for status, n in found["statuses"].items()},
            "groups/number": groups,
            "groups/zero_variance": found["n_zero_variance"],
            "groups/zero_variance_share": found["n_zero_variance"] / groups,
            "tools/calls": calls,
            "tools/errors": found["tool_errors"],
            "tools/error_share": found["tool_errors"] / calls if calls else None,
            "speed/rollout_tokens_per_second": found["tokens_per_second"],
            "speed/train_tokens_per_second": found["trained_tokens_per_second"],
            "speed/mfu": _mfu(config, metrics),
            **{f"seconds/{phase}": value for phase, value in found["seconds"].items()},
            "seconds/wait_for_rollout": metrics.get("seconds", {}).get("wait"),
        }
    )


def of_evaluation(run: RunDir, name: str, version: int) -> dict[str, float]:
    """The figures of a finished evaluation.

    Raises:
        InputError: its tasks cannot be read any more.
    """
    config, _, source = benchmark.read(run, name)
    folder, tasks = run.evaluation(name, version), list(source.tasks("held_out"))
    levels = {task.task_id: task.level for task in tasks if not task.is_withheld}
    attempts = config.evaluation.attempts
    if not levels:
        answered = sum(each.has_answer for each in journal.records(folder / "journals"))
        return {f"evaluation/{name}/answered": answered / (len(tasks) * attempts)} if tasks else {}
    found = evaluated(folder, levels, attempts).figures
    calls = sum(one["calls"] for one in found["tools"].values())
    failed = found["failures"].items()
    figures = {
        "reward": found["mean_reward"],
        "reward_low": found["ci95"][0],
        "reward_high": found["ci95"][1],
        "pass_at_1": found["pass_at_1"],
        **{f"level_{level}": one["mean_reward"] for level, one in found["by_level"].items()},
        **{f"reward_{part}": value for part, value in found["reward_parts"].items()},
        **{f"share_{status}": count / (len(levels) * attempts) for status, count in failed},
        "tool_error_share": sum(one["errors"] for one in found["tools"].values()) / calls if calls else None,
    }
    return _finite({f"evaluation/{name}/{key}": value for key, value in figures.items()})


def _mfu(config: Config, metrics: dict[str, Any]) -> float | None:
    """The share of the GPUs' peak that the round's training reached; None: the site names no hardware.

    The FLOPs are those of forward and backward passes, without what is computed again. The seconds are all of the
    training, with the reference policy's pass.
    """
    known, computed = hardware.load(config.site), metrics.get("computed")
    seconds = metrics.get("seconds", {}).get("train")
    if not known or not computed or not seconds:
        return None
    flops = 3 * summed_flops(config.model.architecture, computed["tokens"], computed["squares"])
    return float(flops / (seconds * config.site.train.tasks * known.teraflops * 1e12))


def _finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if value is not None and isfinite(value)}
