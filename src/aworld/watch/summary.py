"""The final table of a run."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from aworld.evaluation.statistics import MEAN_REWARD
from aworld.rundir import RunDir


def summary(run: RunDir, console: Console) -> None:
    """Print pass@1, or the mean reward, before and after, overall and per level, and where the report lies."""
    evaluation = json.loads((run.root / "report.json").read_text())["evaluation"]
    if {"before", "after"} <= evaluation.keys():
        _table(evaluation["before"], evaluation["after"], evaluation["difference"], console)
    elif "before" in evaluation:  # nothing but a cold start, which makes the first policy
        before = evaluation["before"]
        console.print(f"held-out {before['measure']} {_cell(before)}", highlight=False, markup=False)
    console.print(f"report: {run.root / 'report.html'}", highlight=False, soft_wrap=True)


def _table(before: dict[str, Any], after: dict[str, Any], difference: dict[str, Any], console: Console) -> None:
    measure = before["measure"] if before["measure"] == after["measure"] else MEAN_REWARD
    table = Table(title=f"held-out {measure}, {before['n_tasks']} tasks × {before['attempts']} attempts")
    for column in ("", "before", "after", "difference"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row(
        "overall", _cell(before), _cell(after), f"{_points(difference['mean'])} {_interval(difference['ci95'])}"
    )
    for level in sorted(before["by_level"]):
        one, other = before["by_level"][level], after["by_level"][level]
        table.add_row(f"level {level}", _cell(one), _cell(other), _points(other["mean_reward"] - one["mean_reward"]))
    console.print(table)


def _cell(result: dict[str, Any]) -> str:
    return f"{100 * result['mean_reward']:.1f} % {_interval(result['ci95'])}"


def _interval(ci95: list[float]) -> str:
    return f"[{100 * ci95[0]:.1f}, {100 * ci95[1]:.1f}]"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
