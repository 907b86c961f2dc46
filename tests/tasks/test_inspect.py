"""The samples of an inspect_ai task become tasks, and its own scorers decide: as inspect_ai's own evaluation does."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from worth import worth

from aworld import tasks
from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks.task import Program

pytestmark = pytest.mark.unit
FILE = """
from pathlib import Path
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import CORRECT, INCORRECT, Score, choice, exact, match, mean, model_graded_fact, scorer


@scorer(metrics=[mean()])
def close(within=1.0):
    async def score(state, target):
        return Score(value=max(0.0, 1 - abs(float(state.output.completion) - float(target.text)) / within))
    return score

@task
def sums():
    samples = [Sample(input=f"{n}+{n}?", target=str(2 * n), metadata={"n": n}) for n in range(1, 4)]
    samples[0].files = {"given.txt": "beside.txt", "said.txt": "some words"}
    return Task(dataset=samples, scorer=[match(numeric=True), close(within=4.0)])

@scorer(metrics=[mean()])
def reward():
    async def score(state, target):
        return Score(value=0.25)
    return score

@task
def named():
    return Task(dataset=[Sample(input="1+1?")], scorer=[match(numeric=True), reward()])

@task
def letters():
    system, user = ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Which is even?")
    return Task(dataset=[Sample(input=[system, user], choices=["3", "4"], target="B", id="even")], scorer=choice())

@task
def graded():
    return Task(dataset=[Sample(input="?", target="!")], scorer=[exact(), model_graded_fact()])

@task
def boxed():
    return Task(dataset=[Sample(input="?", target="!")], scorer=exact(), sandbox="docker")

@task
def talks():
    talk = [ChatMessageUser(content="Hi"), ChatMessageAssistant(content="Hello")]
    return Task(dataset=[Sample(input=talk, target="!"), Sample(input="?", files={"a/b": "c"})], scorer=exact())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.txt").write_text("a file")
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def made(path: str, folder: Path, **settings: Any) -> Any:
    return tasks.make_source(Tasks(**{"source": "inspect", "path": path, "held_out": 0, **settings}), folder)


def scored(program: Program) -> Any:
    """As the scoring server runs it."""
    before, sys.argv = sys.argv, [str(program.file), *program.arguments]
    try:
        return runpy.run_path(str(program.file))["score"](json.loads(json.dumps(program.request)))
    finally:
        sys.argv = before


def test_samples_are_tasks_and_the_scorers_decide(file: Path, tmp_path: Path) -> None:
    source = made(f"{file}@sums", tmp_path / "run", held_out=1)
    train, held_out = list(source.tasks("train")), list(source.tasks("held_out"))
    first, *_ = sorted([*train, *held_out], key=lambda task: task.task_id)
    assert (len(train), len(held_out)) == (2, 1)
    assert (first.task_id, first.question, first.answer, first.metadata["sample"]["metadata"]) == (
        "1",
        "1+1?",
        "2",
        {"n": 1},
    )
    assert [file.read_text() for file in first.files] == ["a file", "some words"]
    file.unlink()  # the run has its copy
    assert worth(source, None, first) == 0.0
    assert scored(worth(source, "2", first)) == {"reward": 1.0, "match": 1.0, "close": 1.0}
    assert scored(worth(source, "3", first)) == {"reward": 0.0, "match": 0.0, "close": 0.75}


def test_the_first_scorer_decides_whatever_the_others_are_called_and_without_a_target(
    file: Path, tmp_path: Path
) -> None:
    source = made(f"{file}@named", tmp_path / "run")
    (task,) = source.tasks("train")
    assert task.answer is None and not task.is_withheld
    assert scored(worth(source, "2", task)) == {"match": 1.0, "reward": 1.0}


def test_choices_are_letters(file: Path, tmp_path: Path) -> None:
    source = made(f"{file}@letters", tmp_path / "run")
    (task,) = source.tasks("train")
    assert task.question == "Be brief.\n\nWhich is even?\n\nA) 3\nB) 4"
    assert [scored(worth(source, answer, task))["reward"] for answer in ("B", "(B) 4", "A", "A or B", "none")] == [
        1,
        1,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{file}@graded", "inspect_ai/model_graded_fact asks a model, and scorers have no network"),
        ("{file}@boxed", "wants a sandbox or a setup of inspect_ai's; .* task folders"),
        ("{file}@talks", r"sample 1: it is a conversation with an assistant.* \(1 more such rows"),
        ("{file}@none", "PrerequisiteError: Task named 'none' not found"),
        ("{file}", r"names no task of the file; name one: .*mine\.py@TASK"),
        ("none.py@sums", "none.py is not there"),
        ("", "name an inspect_ai task"),
    ],
)
def test_a_task_that_cannot_be_played_is_one_line(path: str, said: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        made(path.format(file=file), tmp_path / "run")
