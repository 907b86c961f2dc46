"""Rows of the user's own in each form, and the line that a bad one gets."""

import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest

from aworld.errors import InputError
from aworld.tasks import rows
from aworld.tasks.task import Task

pytestmark = pytest.mark.unit
DATASET = Path(__file__).parent / "data" / "sums"  # as datasets 5.2.0 saved a DatasetDict, its train split in two files


def lines(path: Path, *values: Any) -> Path:
    path.write_text("\n".join(value if isinstance(value, str) else json.dumps(value) for value in values) + "\n")
    return path


def read(path: Path) -> list[Task]:
    return rows.tasks_of(rows.read(path), path.parent, "mine")


def test_both_shapes_of_a_row_are_tasks(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("table.csv", "sub/plan.txt"):
        (tmp_path / name).write_text("1,2\n")
    gaia = {"task_id": "g", "Question": "2+2?", "Level": "2", "Final answer": "4", "file_name": "table.csv"}
    own = {"id": 7, "question": "a\u2028b?", "answer": 4.5, "files": ["table.csv", "sub/plan.txt"], "kind": "sum"}
    path = lines(
        tmp_path / "q.jsonl", gaia, "", own | {"level": 3, "metadata": {"plan": ["x"]}}, gaia | {"task_id": "h"}
    )
    first, second, third = read(path)
    assert first == Task("g", "2+2?", "4", 2, (tmp_path / "table.csv",), "mine")
    files = (tmp_path / "table.csv", tmp_path / "sub" / "plan.txt")
    assert second == Task("7", "a\u2028b?", "4.5", 3, files, "mine", {"kind": "sum", "plan": ["x"]})
    assert third.task_id == "h"
    for task in (first, second):
        assert rows.from_line(rows.to_line(task)) == task


def test_a_withheld_answer_is_null_and_in_gaias_shape_a_question_mark(tmp_path: Path) -> None:
    gaia = {"task_id": "g", "Question": "?", "Level": 1, "Final answer": "?", "file_name": ""}
    own = {"id": "a", "question": "Which mark ends a question?"}
    found = read(lines(tmp_path / "q.jsonl", gaia, own | {"answer": None}, own | {"id": "b", "answer": "?"}))
    assert [task.answer for task in found] == [None, None, "?"]


def test_parquet_is_read_as_the_same_rows_are(tmp_path: Path) -> None:
    values = [{"id": "a", "question": "1+1?", "answer": "2", "level": 1}, {"id": "b", "question": "?", "answer": None}]
    pandas.DataFrame(values).to_parquet(tmp_path / "q.parquet")  # a missing level is NaN
    assert read(tmp_path / "q.parquet") == read(lines(tmp_path / "q.jsonl", *values))
    assert math.isnan(pandas.read_parquet(tmp_path / "q.parquet")["level"][1])


def test_a_folder_of_datasets_is_read_split_by_split() -> None:
    splits = rows.splits_of(DATASET)
    assert list(splits) == ["train", "test"]
    found = {name: read(path) for name, path in splits.items()}
    assert [task.question for task in found["train"]] == ["What is 0+1?", "What is 1+1?", "What is 2+1?"]
    assert found["test"] == [Task("d3", "What is 3+1?", "4", 1, (), "mine", {"topic": "sums"})]
    with pytest.raises(InputError, match="it has the splits train, test; name one of these folders"):
        read(DATASET)


SOUND = {"id": "a", "question": "1+1?", "answer": "2"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "a"', "no JSON (Expecting ',' delimiter"),
        ("[1]", "a list and no object; write {…}"),
        ({"id": "a", "question": "?", "anwser": "2"}, "no 'answer', only id, question, anwser; add it (null where"),
        ({"id": "a", "answer": "2"}, "no 'question', only id, answer; add it"),
        (SOUND | {"question": " "}, "the question is ' '; write some text"),
        (SOUND | {"id": None}, "the id is None; write some text"),
        (SOUND | {"answer": ""}, "the answer is empty; write it, or null where it is withheld"),
        (SOUND | {"answer": ["2"]}, "the answer is a list; write text, or leave it to the metadata"),
        (SOUND | {"level": "hard"}, "the level is 'hard'; write 1, 2 or 3"),
        (SOUND | {"files": "gone.csv"}, "gone.csv is not there; put it there, or mend its path"),
        (SOUND | {"files": ["lfs.pdf"]}, "lfs.pdf is a pointer of Git LFS, not the file itself; fetch it"),
        (SOUND | {"files": ["q.jsonl", "sub/q.jsonl"]}, "two attachments have one name; give each its own"),
        (SOUND | {"files": 3}, "the files are 3; write a list of paths"),
        (SOUND | {"metadata": "x"}, "the metadata is a str; write an object"),
        ({"task_id": "a", "Question": "?", "Level": 1, "file_name": ""}, "no 'answer', only task_id, Question"),
        (SOUND | {"id": "first"}, "the id 'first' is that of {path} line 1; give each task its own"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place_and_the_mend(row: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "q.jsonl").write_text("")
    (tmp_path / "lfs.pdf").write_text("version https://git-lfs.github.com/spec/v1\n")
    path = lines(tmp_path / "q.jsonl", SOUND | {"id": "first"}, "", row)
    with pytest.raises(rows.BadRows) as error:
        read(path)
    (line,) = error.value.lines
    assert line.startswith(f"{path} line 3: ") and said.replace("{path}", str(path)) in line and "\n" not in line
    assert str(error.value) == line


def test_every_bad_row_has_a_line_and_the_error_says_how_many_there_are(tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", "{", SOUND, "{")
    with pytest.raises(
        rows.BadRows, match=r"q.jsonl line 1: no JSON .* \(1 more such rows; list them all: aworld"
    ) as error:
        read(path)
    assert [line.split(":")[0] for line in error.value.lines] == [f"{path} line 1", f"{path} line 3"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "none.jsonl is not there"),
        ("q.jsonl", b'{"id": "\xff"}', "q.jsonl is not UTF-8"),
        ("q.parquet", b"PAR1 and no more", "q.parquet is no parquet file"),
        ("folder/x", b"", "folder is no dataset of save_to_disk: it has no state.json"),
    ],
)
def test_a_file_that_holds_no_rows_is_one_line(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read(path.parent if name.startswith("folder") else path)
    assert "\n" not in str(error.value)
