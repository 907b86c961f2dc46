"""A taskset of verifiers, in an environment of its own: its tasks, and its rewards in the sandbox."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from program_venv import program_venv
from worth import worth

from aworld import config as schema
from aworld import tasks
from aworld.environments.sandbox import choose
from aworld.environments.scorer import Scorer
from aworld.errors import InputError
from aworld.tasks.task import Worth

pytestmark = [pytest.mark.tools, pytest.mark.deep, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        folder = program_venv("verifiers", "verifiers==0.4.0")
    except InputError as reason:
        pytest.skip(str(reason))
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copy(Path(__file__).with_name("quiz_taskset.py"), packages / "quiz_taskset.py")
    return folder / "bin" / "python"


def made(path: str, python: Path, folder: Path) -> Any:
    return tasks.make_source(
        schema.Tasks(source="verifiers", path=path, held_out=1, python=str(python)), folder / "tasks"
    )


def test_its_rewards_score_the_answer_in_the_sandbox(python: Path, tmp_path: Path) -> None:
    source = made("quiz-taskset", python, tmp_path)
    found = sorted([*source.tasks("train"), *source.tasks("held_out")], key=lambda task: task.task_id)
    assert [(task.task_id, task.question, task.answer) for task in found][1:] == [
        ("n2", "2+2?", "4"),
        ("n3", "3+3?", "6"),
    ]

    async def score() -> list[Worth]:
        limits = schema.Environment(memory_mb=8192, processes=256)
        async with Scorer(choose("auto", ""), limits, tmp_path) as scorer:
            return [await scorer.run(worth(source, answer, found[1])) for answer in ("4", "31", "four")]

    right, wrong, no_number = asyncio.run(score())
    assert right == Worth(1.0, {"length": 1.0, "right": 1.0, "number": 1.0})
    assert (wrong.reward, no_number.reward, no_number.parts["length"]) == (0.25, 0.0, 4.0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BoxedQuiz", "Boxed needs a container"),
        ("LooksQuiz", "its reward looks looks into the agent's container"),
        ("Endless", "it has no end; only tasksets whose rewards read the answer"),
    ],
)
def test_a_taskset_that_cannot_be_played_is_one_line(
    name: str, said: str, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIZ", name)
    with pytest.raises(InputError, match=said):
        made("quiz-taskset", python, tmp_path)


def test_one_that_is_not_there_is_one_line(python: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot load it: .*'no-such' not found"):
        made("no-such", python, tmp_path)
    with pytest.raises(InputError, match=r"tasks\.python=.*none is not there; .* -m venv"):
        made("quiz-taskset", tmp_path / "none", tmp_path)
