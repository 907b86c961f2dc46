"""`report.json` and `report.html`: what a run learned, read from its files, also while it is under way."""

import sys
from typing import Any

from aworld.config import Config, read_provenance
from aworld.errors import InputError
from aworld.evaluation import benchmark, run_page, statistics
from aworld.evaluation.about import sandbox
from aworld.evaluation.rounds import Evaluated, evaluated, read_json, round_figures
from aworld.publish import publish_json
from aworld.rundir import HELD_OUT, RunDir, numbered

TABLES = 10  # rounds to look for a table of measured tasks in; only the last few are kept


def report(config: Config, run: RunDir) -> dict[str, Any]:
    """Write both files into the run directory and return what is in report.json."""
    evaluations, numbers = _evaluations(run), _rounds(run)
    rounds = [found for number in numbers if (found := round_figures(run, number, list(config.tasks.mixture)))]
    figures = {
        "name": config.name,
        "seed": config.seed,
        "cold_start": config.training.cold_start.played_by if config.training.cold_start.is_on else None,
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


def _evaluations(run: RunDir) -> dict[str, list[Evaluated]]:
    """By name of an evaluation: each policy that has finished it, in order. Left out are those without gold answers,
    and, with a warning, benchmarks whose tasks cannot be read any more."""
    found = {}
    for name in [HELD_OUT, *sorted(path.parent.name for path in (run.root / "evals").glob("*/config.yaml"))]:
        try:
            config, _, source = benchmark.read(run, name)
            levels = {task.task_id: task.level for task in source.tasks("held_out") if not task.is_withheld}
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


def _curriculum(run: RunDir, rounds: list[int]) -> dict[str, int]:
    """What the newest table of measured tasks says: the number of tasks, and of those that were never or always solved.
    Empty without a curriculum."""
    for number in reversed(rounds[-TABLES:]):
        if rows := read_json(run.round(number) / "measured.json"):
            means = [reward for _, _, reward, _ in rows.values()]
            never, always = sum(mean <= 0 for mean in means), sum(mean >= 1 for mean in means)
            return {"round": number, "n_tasks": len(rows), "n_never": never, "n_always": always}
    return {}
