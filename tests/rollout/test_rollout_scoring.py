"""Scorers of every kind: none holds the worker up, none ends it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from aworld.errors import InputError
from aworld.rollout.scoring import AT_ONCE, Scoring, answered
from aworld.tasks.task import Program, Task, Undecided, Worth, worth_of
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit
TASK = Task("a", "What is a?", "42", 1, source="mine")


def scored(score: Any, seconds: float = 30.0) -> Worth:
    async def run(program: Program) -> Worth:
        return worth_of(program.request["worth"], "the program")

    def reward(episode: Episode, task: Task, files: Path | None) -> Any:
        return score(episode.answer, task)

    return asyncio.run(Scoring(reward, lambda task: seconds, run)(answered(TASK, "42"), TASK))


def test_a_reward_is_what_the_scorer_or_its_program_says() -> None:
    assert scored(lambda answer, task: answer == task.answer) == Worth(1.0)
    assert scored(lambda answer, task: Program(Path("score.py"), {"worth": 0.25})) == Worth(0.25)
    assert scored(lambda answer, task: {"reward": 0.5, "format": 1, "length": -2.5}) == Worth(
        0.5, {"format": 1.0, "length": -2.5}
    )


def test_a_scorer_that_hangs_keeps_nobody_waiting_and_not_the_process_either() -> None:
    began = time.monotonic()

    async def story() -> list[Worth | BaseException]:
        scoring = Scoring(lambda *_: time.sleep(3600) or 1.0, lambda task: 0.3, run=None)  # type: ignore[arg-type]
        episode = answered(TASK, "x")
        return await asyncio.gather(*(scoring(episode, TASK) for _ in range(AT_ONCE + 1)), return_exceptions=True)

    for outcome in asyncio.run(story()):
        assert isinstance(outcome, Undecided) and "the scorer of mine took longer than score_seconds=0.3" in str(
            outcome
        )
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda answer, task: float("many"), "the scorer of mine failed: ValueError"),
        (lambda answer, task: 1.5, "gave 1.5, which is not from 0 to 1"),
        (lambda answer, task: float("nan"), "gave nan"),
        (lambda answer, task: 10**400, "which is no finite number"),
        (lambda answer, task: "many", "gave 'many' as 'reward', which is no finite number"),
        (lambda answer, task: {"format": 1.0}, "gave a dict without 'reward', with format"),
        (lambda answer, task: {"reward": 1.0, "format": None}, "gave None as 'format'"),
        (lambda answer, task: {"reward": 1.0} | dict.fromkeys(map(str, range(40)), 0.0), "gave 41 parts; 32 is"),
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
