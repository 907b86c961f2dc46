"""A made-up copy in GAIA's two layouts; no row of GAIA is here."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks import gaia

pytestmark = pytest.mark.unit


def row(name: str, answer: str = "4", level: Any = "1", file: str = "", **more: str) -> dict[str, Any]:
    return {
        "task_id": name,
        "Question": f"What of {name}?",
        "Level": level,
        "Final answer": answer,
        "file_name": file,
        "file_path": f"2023/validation/{file}" if file else "",
        "Annotator Metadata": {"Steps": "1. Know the answer, which is secret."},
        **more,
    }


ROWS = [row("a", level="2"), row("b", "x, y", level="3", file="table.csv"), row("c", "0.5", level="1")]


def write(root: Path, layout: str, rows: list[dict[str, Any]], split: str = "validation") -> Tasks:
    folder = root / "2023" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text("1,2\n")
    if layout == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "metadata.parquet")
    else:  # the older one: numbers as levels, and no path of the file
        old = [{**one, "Level": int(one["Level"])} for one in rows]
        for one in old:
            del one["file_path"]
        (folder / "metadata.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    return Tasks(source="gaia", path=str(root), split=split)


@pytest.mark.parametrize("layout", ["parquet", "jsonl"])
def test_both_layouts_say_the_same(layout: str, tmp_path: Path) -> None:
    source = gaia.source(write(tmp_path, layout, [row("0-0-0-0-0", "?"), *ROWS]), tmp_path / "unused")
    tasks = list(source.tasks("held_out"))
    assert [(t.task_id, t.question, t.answer, t.level) for t in tasks] == [
        ("a", "What of a?", "4", 2),
        ("b", "What of b?", "x, y", 3),
        ("c", "What of c?", "0.5", 1),
    ]
    assert [t.files for t in tasks] == [(), (tmp_path / "2023" / "validation" / "table.csv",), ()]
    assert list(source.tasks("train")) == []
    assert "secret" not in repr(tasks)
    assert not (tmp_path / "unused").exists()
    assert [source.score(answer, tasks[0]) for answer in ("4.0", "$4", "5", None)] == [1, 1, 0, 0]
    assert source.score("X,Y", tasks[1]) == 1.0


def test_withheld_answers_are_worth_nothing_whatever_is_said(tmp_path: Path) -> None:
    source = gaia.source(write(tmp_path, "parquet", [row("a", "?")], "test"), tmp_path)
    (task,) = source.tasks("held_out")
    assert task.answer is None and source.score("?", task) == 0.0 and source.score(None, task) == 0.0


@pytest.mark.parametrize("layout", ["parquet", "jsonl"])
@pytest.mark.parametrize("null", [None, math.nan])
def test_a_gold_answer_that_is_null_is_withheld(layout: str, null: float | None, tmp_path: Path) -> None:
    rows = [{**row("a"), "Final answer": null, "file_name": null, "file_path": null}]
    source = gaia.source(write(tmp_path, layout, rows), tmp_path)
    (task,) = source.tasks("held_out")
    assert task.answer is None and task.files == ()
    assert [source.score(said, task) for said in (None, "None", "nan", "null", "")] == [0, 0, 0, 0, 0]


def test_a_line_ends_only_where_json_lines_end_it(tmp_path: Path) -> None:
    """JSON does not escape what Unicode calls a line or paragraph separator."""
    config = write(tmp_path, "jsonl", [])
    told = [
        {**row(name), "Question": f"before{mark}after"} for name, mark in zip("abc", "\u2028\u2029\x85", strict=True)
    ]
    text = "".join(
        json.dumps(one, ensure_ascii=False) + end for one, end in zip(told, ("\n", "\r\n", "\n\n"), strict=True)
    )
    (tmp_path / "2023" / "validation" / "metadata.jsonl").write_bytes(text.encode())
    questions = [task.question for task in gaia.source(config, tmp_path).tasks("held_out")]
    assert questions == [one["Question"] for one in told]


@pytest.mark.parametrize("written", ["2", 2, 2.0, "2.0", "Level 2", "level 2", " 2 "])
def test_a_level_is_read_as_people_write_it(tmp_path: Path, written: Any) -> None:
    (task,) = gaia.source(write(tmp_path, "parquet", [row("a", level=written)]), tmp_path).tasks("held_out")
    assert task.level == 2


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.parquet", "table.csv"])
def test_a_pointer_of_git_lfs_is_not_taken_for_the_file(tmp_path: Path, name: str) -> None:
    config = write(tmp_path, "jsonl" if name.endswith("jsonl") else "parquet", ROWS)
    path = tmp_path / "2023" / "validation" / name
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123\n")
    with pytest.raises(InputError, match=rf"^{path} is a pointer of Git LFS, .* git lfs pull$"):
        gaia.source(config, tmp_path)


def test_a_copy_that_is_not_right_is_one_line(tmp_path: Path) -> None:
    def told(config: Tasks) -> str:
        with pytest.raises(InputError) as caught:
            gaia.source(config, tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "aworld prefetch gaia" in told(Tasks(source="gaia"))
    assert "one of validation, test" in told(Tasks(source="gaia", path=str(tmp_path), split="train"))
    assert "no metadata.parquet or metadata.jsonl in" in told(Tasks(source="gaia", path=str(tmp_path)))
    assert "task a is there twice" in told(write(tmp_path / "1", "parquet", [row("a"), row("a")]))
    assert "gone.csv of task a is not there" in told(write(tmp_path / "2", "jsonl", [row("a", file="gone.csv")]))
    assert "row 0 has no Final answer" in told(
        write(tmp_path / "3", "parquet", [{k: v for k, v in row("a").items() if k != "Final answer"}])
    )
    assert "holds no task" in told(write(tmp_path / "4", "parquet", [row("0-0-0-0-0", "?")]))
    assert "holds no task" in told(write(tmp_path / "5", "jsonl", []))
    assert "row 0 has the Level 'hard'; it is to be 1, 2 or 3" in told(
        write(tmp_path / "6", "parquet", [row("a", level="hard")])
    )
    for name in ("metadata.jsonl", "metadata.parquet"):
        config = write(tmp_path / name, name.partition(".")[2], ROWS)
        path = tmp_path / name / "2023" / "validation" / name
        path.write_bytes(path.read_bytes()[:-9])
        assert f"{path} cannot be read" in told(config)
