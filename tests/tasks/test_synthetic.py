"""The generated tasks: solvable by their own plan with nothing but the tools' results, and properly split."""

import json
import re
from pathlib import Path

import pytest

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks import make_source, synthetic
from aworld.tasks.task import Task

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "tasks"


@pytest.fixture(scope="module")
def source(folder: Path):
    return synthetic.source(Tasks(source="synthetic", train=400, held_out=100), folder)


def calls(task: Task) -> list[dict]:
    return [
        json.loads(m) for turn in task.metadata["plan"] for m in re.findall(r"<tool_call>\n(.*)\n</tool_call>", turn)
    ]


def test_splits_are_disjoint_and_complete(source) -> None:
    train, held_out = list(source.tasks("train")), list(source.tasks("held_out"))
    assert len(train) == 400 and len(held_out) == 100
    shown = {(t.question, t.files and t.files[0].read_text()) for t in train}
    assert len(shown) == 400
    assert not shown & {(t.question, t.files and t.files[0].read_text()) for t in held_out}


def test_level_is_the_number_of_tool_calls(source) -> None:
    tasks = list(source.tasks("train"))
    assert {task.level for task in tasks} == {1, 2, 3}
    assert all(len(calls(task)) == task.level for task in tasks)


def test_every_plan_reaches_the_gold_answer_from_what_the_tools_return(source) -> None:
    facts = {row["title"]: row["text"] for row in map(json.loads, source.corpus.read_text().splitlines())}
    for task in source.tasks("train"):
        known = task.question
        for call in calls(task):
            arguments = call["arguments"]
            if call["name"] == "read_file":
                (file,) = task.files
                assert arguments["path"] == file.name
                known += file.read_text()
            elif call["name"] == "search":
                attribute, place = arguments["query"].split(" of ")
                known += facts[f"{place} {attribute}"]
            else:
                numbers = re.findall(r"\d+", arguments["code"])
                assert all(number in known for number in numbers), (task, "the code uses a number from nowhere")
                known += f" {eval(arguments['code'])}"
        final = re.fullmatch(r"<answer>(-?\d+)</answer>", task.metadata["plan"][-1])
        assert final and final[1] in known and source.score(final[1], task)


def test_metadata_has_gaias_columns_and_its_attachments_exist(source, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "train" / "metadata.jsonl").read_text().splitlines()]
    assert {"task_id", "Question", "Level", "Final answer", "file_name", "file_path"} <= rows[0].keys()
    for row in rows:
        assert bool(row["file_name"]) == bool(row["file_path"])
        assert not row["file_path"] or (folder / "train" / row["file_path"]).is_file()


def test_same_seed_same_tasks_other_seed_other_tasks(tmp_path: Path, source) -> None:
    again = synthetic.source(Tasks(source="synthetic", train=400, held_out=100), tmp_path / "again")
    other = synthetic.source(Tasks(source="synthetic", seed=1, train=400, held_out=100), tmp_path / "other")
    questions = [[t.question for t in s.tasks("train")] for s in (source, again, other)]
    assert questions[0] == questions[1] != questions[2]


def test_asking_for_too_many_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no task source 'gaja'.*synthetic"):
        make_source(Tasks(source="gaja"), tmp_path)
