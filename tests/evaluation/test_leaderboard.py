"""The leaderboard's file, read by another JSON reader and scored by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import json as arrow

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.evaluation import leaderboard
from aworld.evaluation.attempt import attempts_in
from aworld.evaluation.benchmark import Played
from aworld.tasks.gaia import GaiaTasks
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ATTEMPTS = st.lists(st.tuples(st.none() | TEXT, TEXT), max_size=3)  # the answer, and what was said


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> GaiaTasks:
    folder = tmp_path_factory.mktemp("GAIA")
    (folder / "test").mkdir()
    row = {"task_id": "a", "Question": "?", "Level": 1, "Final answer": "?", "file_name": ""}
    (folder / "test" / "metadata.jsonl").write_text(json.dumps(row))
    return GaiaTasks(Tasks(source="gaia", path=str(folder), split="test"))


def recorded(task: str, number: int, answer: str | None, said: str = "") -> Episode:
    turns = [Turn("prompt", "?"), Turn("assistant", said)]
    return Episode(0, task, number, 1, "?", [], [], [], turns, answer, 0.0, "answered", {}, 0, 0)


@settings(max_examples=40)  # each is a file on disk
@given(st.dictionaries(TEXT.filter(bool), ATTEMPTS, min_size=1, max_size=5))
def test_another_reader_finds_every_task_once(source: GaiaTasks, tmp_path_factory, attempts) -> None:
    tasks = [Task(name, "?", None, 1) for name in attempts]
    folder = tmp_path_factory.mktemp("journals")
    with Journal(folder / "worker-0.journal") as log:
        for name, each in attempts.items():
            for n, one in enumerate(each):
                log.append(recorded(name, n, *one))
    path = folder / "answers.jsonl"
    answered = leaderboard.export(Played(tasks, 3, attempts_in(folder), source), path)
    found = arrow.read_json(path).to_pylist()
    assert [list(row) for row in found] == [["task_id", "model_answer", "reasoning_trace"]] * len(attempts)
    assert [row["task_id"] for row in found] == list(attempts)
    for row, each in zip(found, attempts.values(), strict=True):
        possible = [(answer, said) for answer, said in each if answer is not None] or [("", "")]
        assert (row["model_answer"], row["reasoning_trace"]) in possible
    assert answered == sum(row["model_answer"] != "" for row in found)
    assert len(path.read_text().splitlines()) == len(attempts)  # whatever a reader takes for the end of a line


GOOD = [{"task_id": "a", "model_answer": "1"}, {"task_id": "b", "model_answer": "", "reasoning_trace": "none"}]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            [GOOD[0], {**GOOD[1], "model_answer": None}],
            "line 2 .*: None is not of type 'string'",
        ),
        ([GOOD[0], {**GOOD[1], "model_answer": 7}], "line 2 .*: 7 is not of type 'string'"),
        ([GOOD[0], {**GOOD[1], "level": "1"}], "line 2 .*Additional properties are not allowed"),
        ([{"task_id": "a"}, GOOD[1]], "line 1 .*: 'model_answer' is a required property"),
        ([["a", "1"], GOOD[1]], "line 1 .*is not of type 'object'"),
        (GOOD[:1], "not each of the 2 tasks once: 1 lines"),
        ([*GOOD, GOOD[0]], "not each of the 2 tasks once: 3 lines"),
        ([GOOD[0], GOOD[0]], "not each of the 2 tasks once"),
        ([GOOD[0], {**GOOD[1], "task_id": "c"}], "not each of the 2 tasks once"),
        ([], "line 1 of the leaderboard's file is no JSON"),
    ],
)
def test_a_file_that_is_not_so_is_refused(lines: list, told: str) -> None:
    leaderboard.check("".join(json.dumps(line) + "\n" for line in GOOD), ["a", "b"])
    with pytest.raises(InputError, match=told):
        leaderboard.check("".join(json.dumps(line) + "\n" for line in lines), ["a", "b"])


def test_what_would_be_refused_is_not_written(source: GaiaTasks, tmp_path: Path) -> None:
    twice = [Task("a", "?", None, 1), Task("a", "?", None, 1)]
    with pytest.raises(InputError, match="not each of the 2 tasks once"):
        leaderboard.export(Played(twice, 1, [], source), tmp_path / "answers.jsonl")
    number = replace(twice[0], task_id=7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="7 is not of type 'string'"):
        leaderboard.export(Played([number], 1, [], source), tmp_path / "answers.jsonl")
    assert not list(tmp_path.iterdir())
