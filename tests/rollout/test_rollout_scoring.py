"""Scorers of every kind: none holds the worker up, none ends it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from aworld.errors import InputError
from aworld.rollout.scoring import AT_ONCE, Scoring
from aworld.tasks.task import Program, Task, Undecided

pytestmark = pytest.mark.unit
TASK = Task("a", "What is a?", "42", 1, source="mine")


def scored(score: Any, seconds: float = 30.0, answer: str | None = "42") -> float:
    async def run(program: Program) -> float:
        return float(program.request["worth"])

    return asyncio.run(Scoring(score, seconds, run)(answer, TASK))


def test_a_reward_is_what_the_scorer_or_its_program_says() -> None:
    assert scored(lambda answer, task: answer == task.answer) == 1.0
    assert scored(lambda answer, task: Program(Path("score.py"), {"worth": 0.25})) == 0.25


def test_a_scorer_that_hangs_keeps_nobody_waiting_and_not_the_process_either() -> None:
    began = time.monotonic()

    async def story() -> list[float | BaseException]:
        scoring = Scoring(lambda answer, task: time.sleep(3600) or 1.0, 0.3, run=None)  # type: ignore[arg-type]
        return await asyncio.gather(*(scoring("x", TASK) for _ in range(AT_ONCE + 1)), return_exceptions=True)

    for outcome in asyncio.run(story()):
        assert isinstance(outcome, Undecided) and "tasks.score_seconds=0.3" in str(outcome)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda answer, task: float("many"), "the scorer of mine failed: ValueError"),
        (lambda answer, task: 1.5, "gave 1.5, which is not from 0 to 1"),
        (lambda answer, task: float("nan"), "gave nan"),
        (lambda answer, task: Program(Path("score.py"), {"worth": -1}), "gave -1.0"),
    ],
)
def test_what_is_no_reward_is_that_answers_alone(score: Any, said: str) -> None:
    with pytest.raises(Undecided, match=said):
        scored(score)


def test_what_goes_for_every_answer_is_passed_on() -> None:
    def refuses(answer: str | None, task: Task) -> float:
        raise InputError("the judge's key is wrong")

    with pytest.raises(InputError, match="key"):
        scored(refuses)
