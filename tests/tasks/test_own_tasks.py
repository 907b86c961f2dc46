"""Tasks of the user's own: rows that are split, copied and never asked twice; a source in a file; a mixture."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from worth import worth

from aworld import config as configuration
from aworld import plugins, tasks
from aworld.config import Part, Tasks
from aworld.errors import InputError

pytestmark = pytest.mark.unit
DATASET = Path(__file__).parent / "data" / "sums"


def rows(path: Path, names: str, question: str = "What is {}?") -> Path:
    values = [{"id": name, "question": question.format(name), "answer": name.upper()} for name in names]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def ids(config: Tasks, folder: Path) -> dict[str, str]:
    source = tasks.make_source(config, folder)
    return {split: " ".join(task.task_id for task in source.tasks(split)) for split in ("train", "held_out")}


def test_two_files_are_trained_and_evaluated_on(tmp_path: Path) -> None:
    train, test = rows(tmp_path / "train.jsonl", "abc"), rows(tmp_path / "test.jsonl", "de")
    config = Tasks(source="jsonl", path=str(train), held_out_path=str(test))
    assert ids(config, tmp_path / "tasks") == {"train": "a b c", "held_out": "d e"}
    only = Tasks(source="jsonl", held_out_path=str(test))
    assert ids(only, tmp_path / "other") == {"train": "", "held_out": "d e"}


def test_one_file_is_split_by_its_ids_and_a_seed_wherever_the_rows_are(tmp_path: Path) -> None:
    path, turned = rows(tmp_path / "a.jsonl", "abcdefghij"), rows(tmp_path / "b.jsonl", "jihgfedcba")

    def held_out(path: Path, seed: int, count: float) -> set[str]:
        config = Tasks(source="jsonl", path=str(path), seed=seed, held_out=count)
        found = ids(config, tmp_path / f"{path.stem}-{seed}-{count}")
        assert sorted(f"{found['train']} {found['held_out']}".split()) == list("abcdefghij")
        return set(found["held_out"].split())

    assert held_out(path, 0, 3) == held_out(turned, 0, 3) == held_out(path, 0, 0.3)
    assert held_out(path, 0, 2) < held_out(path, 0, 3)  # more of them are those and others
    assert len({frozenset(held_out(path, seed, 3)) for seed in range(4)}) > 1
    assert held_out(path, 0, 0) == set()


def test_a_dataset_with_splits_needs_no_more_said(tmp_path: Path) -> None:
    assert ids(Tasks(source="jsonl", path=str(DATASET)), tmp_path / "tasks") == {"train": "d0 d1 d2", "held_out": "d3"}


def test_a_run_keeps_the_rows_that_it_began_with_and_says_so(tmp_path: Path) -> None:
    path = rows(tmp_path / "q.jsonl", "abc")
    config = Tasks(source="jsonl", path=str(path), held_out=1)
    before = ids(config, tmp_path / "tasks")
    assert tasks.edited(config, tmp_path / "tasks") == []
    rows(path, "xyz")
    assert ids(config, tmp_path / "tasks") == before
    (line,) = tasks.edited(config, tmp_path / "tasks")
    assert line.startswith(f"{path} changed since the run began") and "name=…" in line
    path.unlink()
    assert ids(config, tmp_path / "tasks") == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"held_out": 3}, "tasks.held_out=3 of 3 tasks in .* leaves none to train on"),
        ({"held_out": 1.5}, "tasks.held_out=1.5 of 3 tasks in .* or is no whole number"),
        ({"held_out_path": "same.jsonl"}, "the held-out task 'c' asks the same as 'c', which is trained on"),
        ({"path": None}, "tasks.path=null: name your rows"),
        ({"path": "empty.jsonl"}, "empty.jsonl holds no task; write a row for each"),
        ({"path": "withheld.jsonl", "held_out": 0}, "1 tasks have no answer to learn from, the first of them 'a'"),
    ],
)
def test_rows_that_cannot_be_used_are_one_line(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows(tmp_path / "q.jsonl", "abc"), rows(tmp_path / "same.jsonl", "cd")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "withheld.jsonl").write_text('{"id": "a", "question": "?", "answer": null}\n')
    given = {"path": "q.jsonl", "held_out": 1} | settings
    places = {key: str(tmp_path / value) for key, value in given.items() if isinstance(value, str)}
    with pytest.raises(InputError, match=said):
        tasks.make_source(Tasks(**{"source": "jsonl", **given, **places}), tmp_path / "tasks")


MAKE = """
import csv
from pathlib import Path

def make(config, folder):
    (folder / "note.txt").write_text("a note")
    rows = list(csv.DictReader(Path(__file__).with_name("quiz.csv").open()))
    rows = [{"id": row["id"], "question": row["q"], "answer": row["a"]} for row in rows]
    rows[0]["files"] = [str(folder / "note.txt")]
    return {"train": rows[: config.train], "held_out": rows[config.train :]}
"""


def test_a_source_in_a_file_gives_rows_that_the_run_keeps(tmp_path: Path) -> None:
    path, run = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(MAKE)
    (tmp_path / "quiz.csv").write_text("id,q,a\na,1+1?,2\nb,2+2?,4\nc,3+3?,6\n")
    config = Tasks(source=f"{path}:make", train=2, reward="numeric")
    tasks.check(config)
    plugins.keep(plugins.named(config), run / "own")
    assert ids(config, run / "tasks") == {"train": "a b", "held_out": "c"}
    path.write_text("make = None")
    (tmp_path / "quiz.csv").unlink()
    source = tasks.make_source(config, run / "tasks")
    (first, _), (last,) = source.tasks("train"), source.tasks("held_out")
    assert first.files[0].read_text() == "a note" and last.question == "3+3?"
    assert [worth(source, answer, last) for answer in ("6 apples", "7", None)] == [1.0, 0.0, 0.0]


WHOLE = """
from aworld.tasks.task import Task

class Mine:
    corpus = None
    def tasks(self, split):
        return [Task(split, "?", "4", 1)]
    def score(self, answer, task):
        return {"reward": 0.5, "words": len(answer.split())}

def make(config, folder):
    return Mine()
"""


def test_a_source_in_a_file_may_score_by_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WHOLE)
    source = tasks.make_source(Tasks(source=f"{tmp_path}/mine.py:make"), tmp_path / "tasks")
    (task,) = source.tasks("train")
    assert worth(source, "so to say", task) == {"reward": 0.5, "words": 3}


def test_tasks_without_an_answer_are_withheld_unless_a_reward_decides_without(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "?", "answer": null}\n')
    (tmp_path / "r.py").write_text("def score(episode, task):\n    return 1.0\n")
    for reward, withheld in (("", True), ("exact", True), (f"{tmp_path}/r.py:score", False)):
        config = Tasks(source="jsonl", held_out_path=str(tmp_path / "q.jsonl"), reward=reward)
        (task,) = tasks.make_source(config, tmp_path / "tasks").tasks("held_out")
        assert task.is_withheld is withheld


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make(config, folder):\n    return {'test': []}", "there is no split test; give train and held_out"),
        ("def make(config, folder):\n    return {'train': [{'id': 'a'}]}", "make train row 1: no 'question', only id"),
        ("def make(config, folder):\n    raise OSError('no net')", "by .*mine.py:make: OSError: no net; mend"),
        (
            "def make(config, folder):\n    row = {'id': 'a', 'question': '?', 'answer': '4'}\n"
            "    return {'train': [row], 'held_out': [row]}",
            "asks the same as 'a', which is trained on",
        ),
    ],
)
def test_a_source_in_a_file_that_fails_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=said):
        tasks.make_source(Tasks(source=f"{tmp_path}/mine.py:make"), tmp_path / "tasks")


def test_the_size_of_an_evaluation_is_the_number_of_its_rows(tmp_path: Path) -> None:
    train, test = str(rows(tmp_path / "a.jsonl", "abcdefghij")), str(rows(tmp_path / "b.jsonl", "xyz"))
    for config in (
        Tasks(source="jsonl", path=train, held_out_path=test),
        Tasks(source="jsonl", path=train, held_out=0.34),
        Tasks(source="jsonl", path=train, held_out=2),
        Tasks(source="jsonl", path=train, held_out=0.01),
        Tasks(source="jsonl", path=str(DATASET)),
    ):
        found = list(
            tasks.make_source(config, tmp_path / f"{config.held_out}-{config.path == train}").tasks("held_out")
        )
        assert tasks.size(config) == len(found) > 0
    with pytest.raises(InputError, match=r"absent\.jsonl is not there"):
        tasks.size(Tasks(source="jsonl", held_out_path=str(tmp_path / "absent.jsonl")))


def mixture(tmp_path: Path) -> Tasks:
    first, second = rows(tmp_path / "a.jsonl", "abc"), rows(tmp_path / "b.jsonl", "ade", "Where is {}?")
    parts = {
        "one": Part(source="jsonl", path=str(first), held_out=1, weight=2.0),
        "two": Part(source="jsonl", path=str(second), held_out=1, reward="contains"),
    }
    return Tasks(source="mixture", mixture=parts)


def test_a_mixture_has_all_parts_under_names_of_their_own(tmp_path: Path) -> None:
    config = mixture(tmp_path)
    tasks.check(config)
    source = tasks.make_source(config, tmp_path / "tasks")
    found = [task for split in ("train", "held_out") for task in source.tasks(split)]
    assert sorted(task.task_id for task in found) == ["one/a", "one/b", "one/c", "two/a", "two/d", "two/e"]
    of_part = {task.source: task for task in found}
    found = {name: worth(source, f"it is {task.answer}", task) for name, task in of_part.items()}
    assert found == {"one": 0.0, "two": 1.0}  # each by its own reward


def test_the_first_tasks_of_a_mixture_have_the_shares_of_its_weights(tmp_path: Path) -> None:
    config = mixture(tmp_path)
    for name, part in config.mixture.items():
        rows(Path(str(part.path)), "abcdefghijklmnopqrstuvwxyz"[: 13 if name == "one" else 26], f"{name} {{}}?")
    train = [task.source for task in tasks.make_source(config, tmp_path / "tasks").tasks("train")]
    for count in (3, 9, 18):  # such as those of a cold start; one has 12, two has 25
        assert train[:count].count("one") == 2 * count // 3
    assert train[18:] == ["two"] * 19
    assert (train.count("one"), train.count("two")) == (12, 25)


def test_a_part_has_its_own_time_to_score_and_its_faults_its_own_name(tmp_path: Path) -> None:
    config = mixture(tmp_path)
    config.mixture["two"].score_seconds = 7.0
    source = tasks.make_source(config, tmp_path / "tasks")
    assert {task.source: tasks.score_seconds(config, task) for task in source.tasks("train")} == {"one": 900, "two": 7}
    config.score_seconds = 7.0
    with pytest.raises(InputError, match=r"tasks.score_seconds=7.0: tasks.source=mixture does not use it, only mix"):
        tasks.check(config)
    config.mixture["two"].held_out = 3
    with pytest.raises(InputError, match=r"^tasks\.mixture\.two\.held_out=3 of 3 tasks in \S+/b.jsonl leaves none"):
        tasks.make_source(config, tmp_path / "others")
    config.mixture["two"].path = None
    with pytest.raises(InputError, match=r"^tasks\.mixture\.two\.path=null: name your rows"):
        tasks.make_source(config, tmp_path / "more")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "tasks.mixture is empty; name its parts, such as tasks.mixture.NAME.source=jsonl"),
        (["tasks.mixture.a.source=gaja"], "no task source 'gaja'"),
        (["tasks.mixture.a.source=mixture"], "tasks.mixture.a: a part has a name without /, and is no mixture itself"),
        (
            ["tasks.mixture.a.source=gym", "tasks.mixture.a.path=x"],
            "tasks.mixture.a.path=x: .*source=gym does",
        ),
        (["tasks.mixture.a.source=jsonl", "tasks.mixture.a.reward=best"], "tasks.mixture.a.reward=best is not there"),
        (["tasks.mixture.a.weight=0"], "no value for 'tasks.mixture.a.source'"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tasks.check(configuration.load(["recipe=demo", "tasks=mixture", *words]).tasks)


def test_the_function_and_the_mixture_of_the_page_are_whole(tmp_path: Path) -> None:
    page = (configuration.CONFIGS.parent / "docs" / "your-own-tasks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_tasks.py").write_text(code)
    config = Tasks(source=f"{tmp_path}/my_tasks.py:make", train=30)
    tasks.check(config)
    found = ids(config, tmp_path / "tasks")
    assert [len(found[split].split()) for split in ("train", "held_out")] == [20, 10]

    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(configuration.CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "tasks" / "both.yaml").write_text(text)
    mixed = configuration.load(["recipe=demo", "tasks=both"], tmp_path / "configs").tasks
    tasks.check(mixed)
    assert tasks.weights(mixed) == {"sums": 1.0, "mine": 3.0}
