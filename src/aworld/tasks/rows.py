"""Tasks as rows: of JSON lines, of parquet, of a Hugging Face `datasets` folder, or of the user's own function.

A row is in GAIA's shape (task_id, Question, Level, Final answer, file_name), or
{"id", "question", "answer", "level"?, "files"?, "metadata"?}. Other keys of the second shape go to the metadata.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld.errors import InputError
from aworld.tasks.task import Task, check_fetched

GAIA = {
    "task_id": "id",
    "Question": "question",
    "Level": "level",
    "Final answer": "answer",
    "file_name": "files",
    "Annotator Metadata": "annotator",
    "file_path": "file_path",
}
WITHHELD = ("", "?")  # answers of GAIA's test split
KEYS = ("id", "question", "answer", "level", "files", "metadata")
SPLIT_DATASET, DATASET = "dataset_dict.json", "state.json"  # in a folder of `datasets`
MARKS = (SPLIT_DATASET, DATASET)


class BadRows(InputError):  # noqa: N818
    """Rows that are no tasks; `lines` has one for each: file, line, what, mend."""

    def __init__(self, lines: list[str]):
        more = f" ({len(lines) - 1} more such rows; list them all: aworld tasks check)" if len(lines) > 1 else ""
        super().__init__(f"{lines[0]}{more}")
        self.lines = lines


class _BadRow(ValueError):  # noqa: N818
    """What is wrong with a row, and the mend."""


@dataclass(frozen=True)
class Row:
    """A row, and where it is: "FILE line 3"."""

    where: str
    values: Any


def read(path: Path) -> Iterator[Row]:
    """The rows of a file, or of a folder that `Dataset.save_to_disk` made.

    Raises:
        InputError: it is not there, or neither of these.
    """
    if path.is_dir():
        return _of_dataset(path)
    if not path.is_file():
        raise InputError(f"{path} is not there (looked in {Path.cwd()}); mend the path")
    check_fetched(path)
    if path.suffix == ".parquet":
        return _of_parquet(path)
    return _of_lines(path)


def splits_of(path: Path) -> dict[str, Path]:
    """The splits of a folder that `DatasetDict.save_to_disk` made, by their names; empty: it is none."""
    if not (path / SPLIT_DATASET).is_file():
        return {}
    return {name: path / name for name in json.loads((path / SPLIT_DATASET).read_text())["splits"]}


def tasks_of(rows: Iterable[Row], folder: Path, source: str) -> list[Task]:
    """The tasks of some rows.

    Args:
        folder: attachments with a relative path are in there.
        source: their `source`.

    Raises:
        BadRows: some are no tasks.
    """
    tasks: list[Task] = []
    bad: list[str] = []
    first: dict[str, str] = {}  # where each id is
    for number, row in enumerate(rows, 1):
        try:
            task = row.values if isinstance(row.values, Task) else _task(row.values, number, folder, source)
            if task.task_id in first:
                raise _BadRow(f"the id {task.task_id!r} is that of {first[task.task_id]}; give each task its own")
            first[task.task_id] = row.where
            tasks.append(task)
        except (_BadRow, InputError) as error:
            bad.append(f"{row.where}: {error}")
    if bad:
        raise BadRows(bad)
    return tasks


def to_line(task: Task) -> str:
    """A task as a line of JSON, for `from_line`.

    Raises:
        InputError: its metadata has a value that JSON does not know.
    """
    row = {**vars(task), "files": [str(file) for file in task.files]}
    try:
        return json.dumps(row)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the metadata of task {task.task_id!r} cannot be written as JSON ({error}); mend it"
        ) from None


def from_line(line: str) -> Task:
    """The task of such a line."""
    row = json.loads(line)
    return Task(**row | {"files": tuple(map(Path, row["files"]))})


def _of_lines(path: Path) -> Iterator[Row]:
    begin = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):  # at "\n" alone: JSON leaves U+2028 inside of strings
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                at = begin + error.start
                raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {at}); convert it") from None
            begin += len(line)
            if not text.strip():
                continue
            try:
                yield Row(f"{path} line {number}", json.loads(text))
            except ValueError as error:
                yield Row(f"{path} line {number}", error)


def _of_parquet(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet  # takes its time

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Row(f"{path} row {number}", row)
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} is no parquet file ({error}); mend the path, or make it anew") from None


def _of_dataset(path: Path) -> Iterator[Row]:
    if not (path / DATASET).is_file():
        splits = ", ".join(splits_of(path))
        hint = f"it has the splits {splits}; name one of these folders" if splits else f"it has no {DATASET}"
        raise InputError(f"{path} is no dataset of save_to_disk: {hint}")
    from pyarrow import ArrowException, ipc

    number = 0
    for one in json.loads((path / DATASET).read_text())["_data_files"]:
        try:
            with open(path / one["filename"], "rb") as file, ipc.open_stream(file) as batches:
                for batch in batches:
                    for row in batch.to_pylist():
                        number += 1
                        yield Row(f"{path} row {number}", row)
        except (ArrowException, OSError) as error:
            raise InputError(f"{path / one['filename']} cannot be read ({error}); save the dataset anew") from None


def _task(row: Any, number: int, folder: Path, source: str) -> Task:
    if isinstance(row, ValueError):
        raise _BadRow(f"no JSON ({row}); mend the line")
    if not isinstance(row, dict):
        raise _BadRow(f"a {type(row).__name__} and no object; write {{…}}")
    is_gaia = "Question" in row
    values: dict[str, Any] = {GAIA.get(str(key), str(key)): value for key, value in row.items()} if is_gaia else row
    for key in ("question", "answer"):
        if key not in values:
            there = ", ".join(map(str, row)) or "nothing"
            null = " (null where it is withheld)" if key == "answer" else ""
            raise _BadRow(f"no '{key}', only {there}; add it{null}")
    others = {key: value for key, value in values.items() if key not in KEYS and _is_json(value)}
    return Task(
        task_id=_text(values.get("id", f"row-{number}"), "id"),
        question=_text(values["question"], "question"),
        answer=_answer(values["answer"], is_gaia),
        level=_level(values.get("level")),
        files=_files(values.get("files"), folder),
        source=source,
        metadata=others | _metadata(values.get("metadata")),
    )


def _text(value: Any, key: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise _BadRow(f"the {key} is {value!r:.80}; write some text")
    return value


def _answer(value: Any, is_gaia: bool) -> str | None:
    if _is_null(value) or (is_gaia and value in WITHHELD):
        return None
    if isinstance(value, str) and not value.strip():
        raise _BadRow("the answer is empty; write it, or null where it is withheld")
    if not isinstance(value, str | int | float):
        raise _BadRow(f"the answer is a {type(value).__name__}; write text, or leave it to the metadata of a reward")
    return str(value)


def _level(value: Any) -> int:
    """1 to 3, written as a number, or as "Level 1"; 1 where there is none."""
    if _is_null(value):
        return 1
    if not (found := re.fullmatch(r"(?:level\s*)?([1-3])(?:\.0)?", str(value).strip(), re.IGNORECASE)):
        raise _BadRow(f"the level is {value!r:.80}; write 1, 2 or 3")
    return int(found[1])


def _files(value: Any, folder: Path) -> tuple[Path, ...]:
    if _is_null(value) or value == "":
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise _BadRow(f"the files are {value!r:.80}; write a list of paths")
    paths = tuple((folder / Path(name).expanduser()).absolute() for name in names)
    for path in paths:
        if not path.is_file():
            raise _BadRow(f"the attachment {path} is not there; put it there, or mend its path")
        check_fetched(path)
    if len({path.name for path in paths}) < len(paths):
        raise _BadRow("two attachments have one name; give each its own")
    return paths


def _metadata(value: Any) -> dict[str, Any]:
    if _is_null(value):
        return {}
    if not isinstance(value, dict):
        raise _BadRow(f"the metadata is a {type(value).__name__}; write an object")
    return {str(key): item for key, item in value.items() if _is_json(item)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_null(value: Any) -> bool:
    """Whether a field is empty: None, or NaN, as table libraries write it."""
    return value is None or value != value
