"""What a source may be told, and what its tasks may be called."""

import re
from pathlib import Path

import pytest
from worth import worth

from aworld import config as configuration
from aworld import tasks
from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks.task import Task

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["tasks.path=mine.jsonl"],
            r"tasks\.path=mine\.jsonl: tasks\.source=synthetic does not use it, only seed, train,",
        ),
        (["tasks.split=test"], "tasks.split=test: tasks.source=synthetic does not use it"),
        (["tasks.judge.model=m"], "tasks.source=synthetic does not use it"),
        (
            ["tasks=reasoning-gym", "tasks.path=mine.jsonl"],
            "tasks.source=gym does not use it, only seed, train, held_out, ",
        ),
        (["tasks=gaia-test", "tasks.path=GAIA", "tasks.seed=1"], "tasks.source=gaia does not use it, only path, split"),
        (["tasks=xbench-deepsearch", "tasks.path=x.csv", "tasks.datasets=[a]"], "tasks.source=xbench does not use it"),
        (
            ["tasks.source=gaja"],
            r"no task source 'gaja' \(tasks.source\); valid: gaia, gym, harbor, inspect, jsonl, mixture, synthetic",
        ),
    ],
)
def test_a_setting_that_a_source_does_not_use_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tasks.check(configuration.load(["recipe=demo", *words]).tasks)


@pytest.mark.parametrize("name", sorted(p.stem for p in (configuration.CONFIGS / "tasks").glob("*.yaml")))
def test_every_file_of_settings_is_used(name: str) -> None:
    parts = ["tasks.mixture.mine.source=jsonl"] if name == "mixture" else []
    tasks.check(configuration.load(["recipe=demo", f"tasks={name}", *parts]).tasks)


def of(*names: object) -> list[Task]:
    return [Task(name, "?", "4", 1, source="mine") for name in names]  # type: ignore[arg-type]


def test_ids_that_can_be_stored_pass() -> None:
    tasks.check_ids(of("a/b: ä", "x" * 128, "é" * 64))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "x" * 129], "has 129 bytes; shorten it to 128"),
        (["é" * 65], "has 130 bytes; shorten it to 128"),
        (["a", "b", "a"], "tasks.source=mine: the task id 'a' is there twice in a split"),
        ([""], "is no printable text"),
        ([7], "the task id 7 is no printable text"),
        (["a\nb"], "is no printable text"),
        (["\ud800"], "is no printable text"),
    ],
)
def test_ids_that_cannot_be_stored_are_refused(names: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tasks.check_ids(of(*names))


def test_the_longest_id_is_the_trajectory_files() -> None:
    from aworld.trajectories.arrays import COLUMNS

    assert COLUMNS["task_id"].itemsize == tasks.LONGEST_ID


@pytest.mark.parametrize("where", ["source", "tasks"])
def test_a_module_of_a_users_that_fails_is_bad_input(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One as anybody would write it, which does not ask whether its file is there."""
    code = "from pathlib import Path\nUSES = ('path',)\nclass Mine:\n    corpus = None\n"
    code += "    def __init__(self, path):\n        self.path = path\n"
    code += "    def tasks(self, split):\n        yield Path(self.path).read_text()\n"
    made = "Mine(config.path)" if where == "tasks" else "Mine(Path(config.path).read_text())"
    (tmp_path / "own_list.py").write_text(f"{code}def source(config, folder):\n    return {made}\n")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    config = Tasks(source="own_list", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(
        InputError, match=r"own_list\.py: FileNotFoundError: .*none\.jsonl'; mend tasks.path, or the module"
    ):
        tasks.make_source(config, tmp_path / "tasks").tasks("held_out")


def test_the_module_of_the_docs_is_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (configuration.CONFIGS.parent / "docs" / "add-a-benchmark.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (row,) = re.findall(r"`({\"id\".*?})`", page)
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "q.jsonl").write_text(row + "\n")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    config = Tasks(source="mine", path=str(tmp_path / "q.jsonl"))
    tasks.check(config)
    made = tasks.make_source(config, tmp_path / "tasks")
    (task,) = made.tasks("held_out")
    assert (task.question, worth(made, "42.0", task), worth(made, "41", task)) == ("What is 6*7?", 1.0, 0.0)
    with pytest.raises(InputError, match="no such file; set it to your JSONL file"):
        tasks.make_source(Tasks(source="mine", path="none"), tmp_path)
