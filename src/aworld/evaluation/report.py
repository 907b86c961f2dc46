"""`report.json` and `report.html`: what a run learned, read from its files, also while it is under way."""

import sys
from pathlib import Path
from typing import Any

from aworld.config import Config, read_provenance, to_yaml
from aworld.errors import InputError
from aworld.evaluation import benchmark, plots, statistics
from aworld.evaluation.pages import publish_page
from aworld.evaluation.rounds import Evaluated, evaluated, read_json, round_figures
from aworld.publish import publish_json
from aworld.rundir import HELD_OUT, RunDir, numbered
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

SAMPLES = 3  # readable episodes of each kind


def report(config: Config, run: RunDir) -> dict[str, Any]:
    """Write both files into the run directory and return what is in report.json."""
    evaluations = _evaluations(run)
    figures = {
        "name": config.name,
        "seed": config.seed,
        "trained_on": f"{config.tasks.source}-{config.tasks.split}" if config.tasks.purpose == "train" else None,
        "evaluation": _before_and_after(evaluations.get(HELD_OUT, [])),
        "evaluations": {name: [one.figures for one in each] for name, each in evaluations.items()},
        "rounds": [figures for number in _rounds(run) if (figures := round_figures(run, number))],
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
    return read_json(folder / "sandbox.json")


def _evaluations(run: RunDir) -> dict[str, list[Evaluated]]:
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
            found[name] = [evaluated(folder, levels, config.evaluation.attempts) for folder in folders]
    return found


def _before_and_after(held_out: list[Evaluated]) -> dict[str, Any]:
    """`before` is the first policy evaluated, `after` the last one, once there are two, `difference` that of both."""
    named = dict(zip(("before", "after"), [*held_out[:1], *held_out[1:][-1:]], strict=False))
    found: dict[str, Any] = {key: one.figures for key, one in named.items()}
    if len(named) == 2:
        found["difference"] = statistics.difference(*(one.means for one in named.values()))
    return found


def _rounds(run: RunDir) -> list[int]:
    return [int(p.name) for p in numbered(run.root / "rounds") if (p / "trajectories.h5").exists()]


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
