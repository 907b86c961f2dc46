"""The report's pictures, as inline SVG that takes its ink from the page, so that it reads in light and dark."""

import io
from collections.abc import Callable
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt  # after the choice of back end
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

INK = "#7a8594"  # reads on white and on black
BLUE, ORANGE, GREEN, PINK, GREY = "#3b82c4", "#e0873a", "#3fa66b", "#c45b9a", "#9aa4b1"
STYLE = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.18,
    "font.size": 10,
    "svg.fonttype": "none",
    "savefig.transparent": True,
}
PHASES = {"load": GREEN, "rollout": BLUE, "gather": PINK, "train": ORANGE}


def draw(figures: dict[str, Any]) -> dict[str, str]:
    """Title → SVG of every picture there is data for."""
    rounds = [r for r in figures["rounds"] if r["round"] > 0]
    pictures: dict[str, str] = {}
    if rounds or figures["evaluations"]:
        pictures["Learning curve"] = _svg(lambda axes: _learning(axes, rounds, figures["evaluations"]))
    if figures["evaluation"]:
        pictures["Held-out evaluations by level"] = _svg(lambda axes: _levels(axes, figures["evaluation"]))
    for title, key, unit, color in (
        ("Sampled tokens per episode", "length_mean", "tokens", GREEN),
        ("Entropy of the policy", "entropy", "nats per token", PINK),
        ("KL between vLLM's and Megatron's probabilities", "kl", "nats per token", ORANGE),
    ):
        if any(r[key] is not None for r in rounds):
            pictures[title] = _svg(lambda axes, k=key, u=unit, c=color: _series(axes, rounds, k, u, c))  # type: ignore[misc]
    if figures["rounds"]:
        pictures["Seconds by phase"] = _svg(lambda axes: _phases(axes, figures["rounds"]))
    return pictures


def curve(pass_at_k: list[float]) -> str:
    """Success against attempts: an SVG of pass@k for k = 1, 2, …"""

    def paint(axes: Axes) -> None:
        axes.plot(range(1, len(pass_at_k) + 1), [100 * value for value in pass_at_k], "o-", color=BLUE)
        axes.set_xlabel("attempts")
        axes.set_ylabel("tasks solved, %")
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _svg(paint)


def _svg(paint: Callable[[Axes], None]) -> str:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _learning(axes: Axes, rounds: list[dict[str, Any]], evaluations: dict[str, list[dict[str, Any]]]) -> None:
    if rounds:
        axes.plot(
            [r["round"] for r in rounds], [100 * r["reward"] for r in rounds], "o-", color=BLUE, label="training reward"
        )
    for (name, figures), color in zip(evaluations.items(), cycle((ORANGE, GREEN, PINK, GREY)), strict=False):
        policies = [one["policy"] for one in figures]
        values = np.array([100 * one["mean_reward"] for one in figures])
        lows, highs = 100 * np.array([one["ci95"] for one in figures]).T
        label = f"{name} {figures[0]['measure']}, 95 % interval"
        error = (values - lows, highs - values)
        axes.errorbar(policies, values, yerr=error, fmt="s", color=color, capsize=4, label=label)
    axes.set(xlabel="round", ylabel="%", ylim=(0, 100))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _levels(axes: Axes, evaluation: dict[str, Any]) -> None:
    for offset, (key, color) in enumerate((("before", GREY), ("after", ORANGE))):
        if key not in evaluation:
            continue
        levels = {"all": evaluation[key], **evaluation[key]["by_level"]}
        for at, value in enumerate(levels.values()):
            height = 100 * value["mean_reward"]
            low, high = (100 * bound for bound in value["ci95"])
            error = [[height - low], [high - height]]
            label = key if at == 0 else None
            axes.bar(at + 0.4 * offset, height, 0.36, color=color, yerr=error, capsize=3, ecolor=INK, label=label)
        axes.set_xticks([at + 0.2 for at in range(len(levels))], ["all", *(f"level {k}" for k in list(levels)[1:])])
    axes.set(ylabel="%", ylim=(0, 100))
    axes.legend(frameon=False)


def _series(axes: Axes, rounds: list[dict[str, Any]], key: str, unit: str, color: str) -> None:
    known = [r for r in rounds if r[key] is not None]
    axes.plot([r["round"] for r in known], [r[key] for r in known], "o-", color=color)
    axes.set(xlabel="round", ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)


def _phases(axes: Axes, rounds: list[dict[str, Any]]) -> None:
    bottom = [0.0] * len(rounds)
    numbers = [r["round"] for r in rounds]
    for phase, color in PHASES.items():
        heights = [r["seconds"].get(phase, 0.0) for r in rounds]
        axes.bar(numbers, heights, bottom=bottom, color=color, label=phase, width=0.7)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axes.set(xlabel="round (0: cold start)", ylabel="seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
