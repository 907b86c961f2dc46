"""The reports' pictures, as inline SVG that takes its colours from the page, so that it reads in light and dark.

The size of a picture does not grow with the run: a curve has at most MOST points, each the mean of some rounds.
"""

import io
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt  # after the choice of back end
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

INK = "#7a8594"  # reads on white and on black
BLUE, ORANGE, GREEN, PINK, GREY = "#3b82c4", "#e0873a", "#3fa66b", "#c45b9a", "#9aa4b1"
OF_THE_PAGE = {INK: "soft", BLUE: "blue", ORANGE: "orange", GREEN: "green", PINK: "pink", GREY: "grey"}
COLORS = (BLUE, ORANGE, GREEN, PINK, GREY)
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
    "font.sans-serif": ["DejaVu Sans"],
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "aworld",
    "savefig.transparent": True,
}
MOST = 200  # points of a curve
MARKED = 60  # points of a curve that each have a mark
NAMES = 8  # curves in one picture
STAGES = ("load", "rollout", "gather", "train")
PHASES = {"generate": "generating", "tools": "tools", "wait": "waiting for a sandbox", "rest": "rest"}

Round = dict[str, Any]
Value = Callable[[Round], float | None]


def draw(figures: dict[str, Any]) -> dict[str, str]:
    """Title → SVG of every picture there is data for."""
    rounds = [r for r in figures["rounds"] if r["round"] > 0]
    pictures: dict[str, str] = {}

    def add(title: str, paint: Callable[[Axes], None]) -> None:
        pictures[title] = for_page(_svg(paint), title)

    def curves(title: str, unit: str, values: dict[str, Value], scale: float = 1.0) -> None:
        there = {name: value for name, value in values.items() if any(value(r) is not None for r in rounds)}
        if there:
            add(title, lambda axes: _curves(axes, rounds, dict(islice(there.items(), NAMES)), unit, scale))

    if rounds or figures["evaluations"]:
        add("Learning curve", lambda axes: _learning(axes, rounds, figures["evaluations"]))
    if figures["evaluation"]:
        add("Held-out evaluations by level", lambda axes: _levels(axes, figures["evaluation"]))
    curves("Parts of the reward", "mean", _each(rounds, "reward_parts"))
    curves("Reward by source, %", "%", _each(rounds, "reward_by_source"), 100)
    curves("Sampled tokens per episode", "tokens", {"mean": _of("length_mean"), "longest": _of("length_max")})
    curves("Entropy of the policy", "nats per token", {"entropy": _of("entropy")})
    mismatch = {"KL": _of("kl"), "mean |Δ|": _of("mismatch_mean")}
    curves("vLLM's and Megatron's probabilities", "nats per token", mismatch)
    shares = {
        "groups with one reward": lambda r: r["n_zero_variance"] / r["n_groups"],
        "not answered": lambda r: 1 - r["statuses"].get("answered", 0) / r["n_episodes"],
        "calls of tools with errors": lambda r: r["tool_errors"] / r["tool_calls"] if r["tool_calls"] else None,
        "tokens that were clipped": _of("clip_fraction"),
    }
    curves("Shares of each round, %", "%", shares, 100)
    if figures["rounds"]:
        names = dict.fromkeys([*STAGES, *(name for r in figures["rounds"] for name in r["seconds"])])
        stages = {name: _part("seconds", name) for name in names}
        add("Time of the stages (round 0: cold start)", lambda axes: _stack(axes, figures["rounds"], stages, "seconds"))
    if any(r["episode_time"] for r in rounds):
        phases = {text: _part("episode_time", phase) for phase, text in PHASES.items()}
        add("Time of the episodes by phase", lambda axes: _stack(axes, rounds, phases, "%", 100))
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


def for_page(svg: str, title: str) -> str:
    """The SVG in the colours of the page, with a name for readers that do not see it."""
    for color, name in OF_THE_PAGE.items():
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", svg)  # the same in every picture
    # a hundredth of a point is enough for places; labels stand between the tags
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def thinned(values: Sequence[float]) -> np.ndarray:
    """At most MOST values: the means of as many runs of neighbours, float [n]."""
    whole = np.asarray(values, float)
    return np.array([part.mean() for part in np.array_split(whole, MOST)]) if len(whole) > MOST else whole


def _as_written(name: str) -> str:
    """The label that shows a name of the user's: matplotlib reads $ as mathematics, and hides what begins with _."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _of(key: str) -> Value:
    return lambda r: r[key]


def _each(rounds: list[Round], key: str) -> dict[str, Value]:
    """For each name in this dict of any round, its value in a round."""
    names = dict.fromkeys(name for r in rounds for name in r[key])
    return {name: _part(key, name) for name in names}


def _part(key: str, name: str) -> Value:
    return lambda r: r[key].get(name)


def _svg(paint: Callable[[Axes], None]) -> str:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _by_round(axes: Axes, unit: str) -> None:
    axes.set(xlabel="round", ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes) -> None:
    """Above the axes, where it hides no curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=9, borderaxespad=0.2, handlelength=1.5)


def _mark(points: np.ndarray) -> str:
    return "o" if len(points) <= MARKED else ""


def _learning(axes: Axes, rounds: list[Round], evaluations: dict[str, list[dict[str, Any]]]) -> None:
    if rounds:
        at = thinned([r["round"] for r in rounds])
        lows, highs = (thinned([100 * r["reward_ci95"][side] for r in rounds]) for side in (0, 1))
        axes.fill_between(at, lows, highs, color=BLUE, alpha=0.15, linewidth=0)
        reward = thinned([100 * r["reward"] for r in rounds])
        axes.plot(at, reward, marker=_mark(at), color=BLUE, markersize=4, label="training reward, 95 % interval")
    for (name, figures), color in zip(evaluations.items(), cycle((ORANGE, GREEN, PINK, GREY)), strict=False):
        policies = [one["policy"] for one in figures]
        values = np.array([100 * one["mean_reward"] for one in figures])
        lows, highs = 100 * np.array([one["ci95"] for one in figures]).T
        label = f"{name} {figures[0]['measure']}, 95 % interval"
        error = (values - lows, highs - values)
        axes.errorbar(policies, values, yerr=error, fmt="s", color=color, capsize=4, label=label)
    axes.set_ylim(0, 100)
    _by_round(axes, "%")
    _legend(axes)


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
    _legend(axes)


def _curves(axes: Axes, rounds: list[Round], values: dict[str, Value], unit: str, scale: float) -> None:
    for (name, value), color, dash in zip(values.items(), cycle(COLORS), _dashes(), strict=False):
        known = [(r["round"], scale * found) for r in rounds if (found := value(r)) is not None]
        at, heights = (thinned(column) for column in zip(*known, strict=True))
        axes.plot(at, heights, dash, marker=_mark(at), color=color, markersize=4, label=_as_written(name))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:.6g}")  # small numbers whole, without a power above the axis
    _by_round(axes, unit)
    if len(values) > 1:
        _legend(axes)


def _dashes() -> Iterable[str]:
    return cycle(("-",) * len(COLORS) + ("--",) * len(COLORS))


def _stack(axes: Axes, rounds: list[Round], values: dict[str, Value], unit: str, scale: float = 1.0) -> None:
    """The values of each round above each other."""
    at = thinned([r["round"] for r in rounds])
    heights = {name: thinned([scale * (value(r) or 0.0) for r in rounds]) for name, value in values.items()}
    edges = np.concatenate([[at[0] - 0.5], (at[1:] + at[:-1]) / 2, [at[-1] + 0.5]])
    below = np.zeros(len(at))
    for (name, height), color in zip(heights.items(), cycle((GREEN, BLUE, PINK, ORANGE, GREY)), strict=False):
        axes.stairs(below + height, edges, baseline=below, fill=True, color=color, label=name)
        below = below + height
    axes.set_ylim(bottom=0)
    _by_round(axes, unit)
    _legend(axes)
