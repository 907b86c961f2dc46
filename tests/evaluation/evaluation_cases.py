"""A made-up benchmark, and what two policies answered."""

from dataclasses import replace
from pathlib import Path

from aworld import config as configuration
from aworld.config import Config
from aworld.evaluation import benchmark
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

ATTEMPTS = 4
NAME = "gaia-validation"
# task: level, gold answer, and what was answered in each attempt; None: no answer, absent: no episode at all
SAID: dict[str, tuple[int, str, list[str | None]]] = {
    "a": (1, "12", ["12", "12.0", "13", "12"]),
    "b": (1, "Paris", ["Rome", " paris.", "PARIS", "Rome"]),
    "c": (2, "red", [None, None, "red"]),
    "d": (3, "7", []),
    "e": (3, "x", ["y", "y", "x", None]),
}
RIGHT = {"a": [1, 1, 0, 1], "b": [0, 1, 1, 0], "c": [0, 0, 1, 0], "d": [0] * 4, "e": [0, 0, 1, 0]}


def episode(task: str, attempt: int) -> Episode:
    level, _, said = SAID[task]
    answer = said[attempt]
    turns = [Turn("assistant", f"I say {answer}"), Turn("tool", "ok", "python", {}, is_error=attempt == 2)]
    return Episode(
        round=3,
        task_id=task,
        attempt=attempt,
        level=level,
        question="?",
        token_ids=[1] * (10 + attempt),
        mask=[0] * 10 + [1] * attempt,
        logprobs=[0.0] * (10 + attempt),
        turns=turns,
        answer=answer,
        reward=float(RIGHT[task][attempt]),
        status="answered" if answer else "max_turns",
        seconds={"total": float(attempt)},
        policy_version=3,
        seed=0,
    )


def wanted(gaia: Path, *words: str) -> Config:
    demo = configuration.load(["recipe=demo"])
    return configuration.changed(
        demo, [f"tasks={NAME}", f"tasks.path={gaia}", f"evaluation.attempts={ATTEMPTS}", *words]
    )


def finish(run: RunDir) -> None:
    """Play what is left of both policies, and get it wrong."""
    for version in (3, 4):
        played = {e.identity for e in benchmark.played(run, NAME, version).episodes}
        with Journal(run.evaluation(NAME, version) / "journals" / "worker-1.journal") as log:
            for task, (level, _, _) in SAID.items():
                for attempt in range(ATTEMPTS):
                    wrong = replace(episode("a", 0), round=version, task_id=task, attempt=attempt, level=level)
                    if wrong.identity not in played:
                        log.append(replace(wrong, answer="wrong", reward=0.0))
