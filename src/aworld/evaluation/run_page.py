"""`report.html` of a run: its figures as curves, links to the pages of its evaluations, and episodes to read."""

import sys
from pathlib import Path
from typing import Any

from aworld.config import Config, to_yaml
from aworld.errors import InputError
from aworld.evaluation import evaluation_page, plots
from aworld.evaluation.about import last_written, made_of, own_settings
from aworld.evaluation.pages import publish_page
from aworld.evaluation.samples import samples
from aworld.publish import MARK
from aworld.rundir import RunDir

Evaluation = tuple[str, int]  # its name, and the version of the policy


def publish(config: Config, run: RunDir, figures: dict[str, Any], small: list[Evaluation]) -> None:
    """Write the page, and those of small evaluations that are not there yet, or older than the evaluation's end.

    Args:
        figures: of report.json.
        small: the finished evaluations whose texts a page holds.
    """
    for name, version in small:
        _publish_evaluation(run, name, version)
    finished = [(name, one["policy"]) for name, each in figures["evaluations"].items() for one in each]
    pages = {one: link for one in finished if (link := _link(run, *one))}
    newest = {name: (f"{name}-{version}", link) for (name, version), link in pages.items()}
    compared = samples(run, [one["round"] for one in figures["rounds"]])
    values = {
        "heading": config.name,
        "links": [(config.name, ""), *newest.values()],
        "facts": _facts(config, run, figures),
        "own": own_settings(config),
        "settings": to_yaml(config),
        "provenance": figures["provenance"],
        "sandbox": figures["sandbox"],
        "figures": figures,
        "plots": plots.draw(figures),
        "pages": pages,
        "place": run.root,
        "samples": compared,
    }
    episodes = {key: attempt for one in compared for key, attempt in one.episodes.items()}
    publish_page(run.root / "report.html", "run.html.j2", values, episodes)


def _publish_evaluation(run: RunDir, name: str, version: int) -> None:
    folder = run.evaluation(name, version)
    page, end = folder / "report.html", folder / "timing.json"
    if page.exists() and _written(page) >= _written(end):
        return
    try:
        evaluation_page.publish(run, name, version, is_report=True)
    except InputError as reason:
        print(f"warning: {name}-{version} has no page: {reason}", file=sys.stderr)


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _link(run: RunDir, name: str, version: int) -> str:
    """The link to the page of an evaluation; empty: there is none."""
    page = run.evaluation(name, version) / "report.html"
    return str(page.relative_to(run.root)) if page.exists() else ""


def _facts(config: Config, run: RunDir, figures: dict[str, Any]) -> dict[str, str]:
    began = last_written(path for path in [run.tasks / MARK] if path.exists())
    last = [run.trajectories(one["round"]) for one in figures["rounds"][-1:]]
    return {
        "model": made_of(config),
        "algorithm": config.training.algorithm,
        "tasks": ", ".join(config.tasks.mixture) or config.tasks.source,
        "rounds": f"{max([one['round'] for one in figures['rounds']], default=0)} of {config.pipeline.rounds}",
        "seed": str(config.seed),
        "commit": figures["provenance"].get("commit", "unknown")[:12],
        "sandbox": figures["sandbox"].get("name", "not started yet"),
        "begun": f"{began} UTC" if began else "not recorded",
        "last round": f"{when} UTC" if (when := last_written(last)) else "none is gathered yet",
    }
