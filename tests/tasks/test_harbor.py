"""Task folders in Harbor's format: read, split, copied, and each that cannot be played is one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from task_folders import write_task

from aworld import tasks
from aworld.config import Tasks
from aworld.errors import InputError
from aworld.rollout.scoring import answered
from aworld.tasks.rows import BadRows
from aworld.tasks.task import Verification

pytestmark = pytest.mark.unit
SETTINGS = """
version = "1.0"
[metadata]
difficulty = "hard"
plan = ["<answer>done</answer>"]
[agent]
timeout_sec = 90
[verifier]
timeout_sec = 1200.0
env = { LEVEL = "3" }
[environment]
memory_mb = 2048
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "small.sif"
    path.write_bytes(b"an image")
    return path


def read(root: Path, folder: Path, **settings: Any) -> dict[str, list[Any]]:
    source = tasks.make_source(Tasks(**{"source": "harbor", "path": str(root), "held_out": 1, **settings}), folder)
    return {split: list(source.tasks(split)) for split in ("train", "held_out")}


def test_a_folder_says_all_that_a_task_is(image: Path, tmp_path: Path) -> None:
    canary = "<!-- a canary GUID -->\n\nAdd the numbers.\n"
    write_task(
        tmp_path / "tasks" / "add", image, SETTINGS, instruction=canary, dockerfile="FROM a\nWORKDIR /srv\nworkdir in"
    )
    (task,) = read(tmp_path / "tasks", tmp_path / "run", held_out=0)["train"]
    assert (task.task_id, task.question, task.answer, task.level, task.seconds) == (
        "add",
        "Add the numbers.",
        None,
        3,
        90.0,
    )
    assert task.metadata["plan"] == ["<answer>done</answer>"] and not task.is_withheld
    inside = task.container
    assert (inside.image, inside.workdir) == (tmp_path / "tasks" / "add" / "environment.sif", "/srv/in")
    assert (inside.test_env, inside.test_seconds) == ({"LEVEL": "3"}, 900.0)  # at most tasks.score_seconds
    assert inside.tests == tmp_path / "run" / "tests" / "add" and (inside.tests / "expected").read_text() == "7\n"
    assert inside.solution == tmp_path / "tasks" / "add" / "solution"


def test_every_episode_is_tested_also_without_an_answer(image: Path, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks" / "add", image)
    source = tasks.make_source(Tasks(source="harbor", path=str(tmp_path / "tasks"), held_out=0), tmp_path / "run")
    (task,) = source.tasks("train")
    assert source.reads_files
    episode = replace(answered(task, "done"), answer=None, status="max_turns")
    assert source.reward(episode, task, tmp_path) == Verification(task.container, tmp_path)


def test_a_run_keeps_the_tests_that_it_began_with_and_says_so(image: Path, tmp_path: Path) -> None:
    root, run = tmp_path / "tasks", tmp_path / "run"
    for name in "abcd":
        write_task(root / name, image)
    config = Tasks(source="harbor", path=str(root), held_out=0.25)
    before = read(root, run, held_out=0.25)
    assert sorted(task.task_id for split in before.values() for task in split) == list("abcd")
    assert len(before["held_out"]) == 1 and tasks.edited(config, run) == []
    (root / "a" / "tests" / "expected").write_text("another\n")
    (root / "b" / "instruction.md").unlink()
    assert read(root, run, held_out=0.25) == before
    assert (run / "tests" / "a" / "expected").read_text() == "7\n"
    assert [line.partition(" changed")[0] for line in tasks.edited(config, run)] == [
        str(root / "a" / "tests"),
        str(root / "b" / "instruction.md"),
    ]


@pytest.mark.parametrize(
    ("place", "settings", "pattern"),
    [
        ("tasks/add.sif", "", ""),
        ("tasks/images/my.sif", '[environment]\ndocker_image = "../images/my.sif"', ""),
        ("tasks/all/add.img", "", "{root}/all/{task}.img"),
    ],
)
def test_an_image_lies_beside_or_where_it_is_named(place: str, settings: str, pattern: str, tmp_path: Path) -> None:
    root = tmp_path / "tasks"
    write_task(root / "add", settings=settings)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).mkdir()  # an image may be a folder, too
    (task,) = read(root, tmp_path / "run", held_out=0, image=pattern.replace("{root}", str(root)))["train"]
    assert task.container.image.resolve() == tmp_path / place


@pytest.mark.parametrize(
    ("settings", "files", "said"),
    [
        ("version = ", {}, "Invalid value"),
        ("", {"instruction": "<!-- canary -->\n"}, "instruction.md is empty; write the task into it"),
        (
            "",
            {"dockerfile": "WORKDIR $HOME/app"},
            r"WORKDIR .* has a variable; write \[environment\] workdir into task.toml",
        ),
        ('steps = [{name = "one"}]', {}, "it has several steps, which are not played here"),
        ('[verifier]\nenvironment_mode = "separate"', {}, "its test wants a container of its own"),
        ('[verifier]\nenv = {KEY = "${MY_KEY}"}', {}, r"\[verifier\] env.KEY wants a variable of the host"),
        ('environment = "x"', {}, "task.toml has a value of another kind than Harbor's"),
        ("[agent]\ntimeout_sec = -1", {}, r"\[agent\] timeout_sec is -1; write a number of seconds above 0"),
    ],
)
def test_a_folder_that_cannot_be_played_is_one_line(
    settings: str, files: dict[str, str], said: str, image: Path, tmp_path: Path
) -> None:
    write_task(tmp_path / "tasks" / "good", image)
    write_task(tmp_path / "tasks" / "bad", image, settings, **files)
    with pytest.raises(BadRows, match=f"tasks/bad: .*{said}") as caught:
        read(tmp_path / "tasks", tmp_path / "run")
    assert len(caught.value.lines) == 1


def test_what_is_missing_is_one_line(image: Path, tmp_path: Path) -> None:
    root = tmp_path / "tasks"
    write_task(root / "none", settings='[environment]\ndocker_image = "my/image:1"')
    with pytest.raises(InputError, match=r"no image at .*build it: apptainer build \S+ docker://my/image:1"):
        read(root, tmp_path / "run")
    (root / "none" / "tests" / "test.sh").unlink()
    with pytest.raises(InputError, match=r"there is no tests/test.sh; write it"):
        read(root, tmp_path / "run")
    (root / "none" / "environment" / "docker-compose.yaml").write_text("services: {}")
    with pytest.raises(InputError, match=r"several containers \(docker-compose\)"):
        read(root, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no task; a task is a folder with task\.toml"):
        read(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(InputError, match="nowhere is not there"):
        read(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(InputError, match=r"tasks.path=null: name a folder of task folders"):
        tasks.make_source(Tasks(source="harbor"), tmp_path / "run")


def test_the_same_task_is_not_on_both_sides(image: Path, tmp_path: Path) -> None:
    for side in ("train", "test"):
        write_task(tmp_path / side / f"add-{side}", instruction="Add.")
    images = {"image": str(image), "held_out_path": str(tmp_path / "test")}
    with pytest.raises(InputError, match="the held-out task 'add-test' asks the same as 'add-train'"):
        read(tmp_path / "train", tmp_path / "run", **images)
    (tmp_path / "other.sif").touch()
    images["image"] = str(tmp_path / "{task}.sif")  # with another image it is another task
    for side in ("train", "test"):
        (tmp_path / f"add-{side}.sif").touch()
    assert [len(found) for found in read(tmp_path / "train", tmp_path / "run", **images).values()] == [1, 1]
    assert json.loads((tmp_path / "run" / "train.jsonl").read_text())["task_id"] == "add-train"
