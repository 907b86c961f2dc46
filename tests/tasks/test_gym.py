"""reasoning-gym's tasks and scorers, against the library called by hand."""

import json
from pathlib import Path

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS as DATASETS_THERE

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks import gym, gym_score
from aworld.tasks.gym import GymTasks
from aworld.tasks.task import Task

pytestmark = pytest.mark.unit
DATASETS = ["chain_sum", "leg_counting", "number_sorting"]


def worth(source: GymTasks, answer: str | None, task: Task) -> float:
    """What the program says, here without its sandbox; one that fails is worth 0 there."""
    program = source.score(answer, task)
    assert program.file == Path(gym_score.__file__)
    try:
        return gym_score.score(json.loads(json.dumps(program.request)))
    except Exception:
        return 0.0


def test_tasks_are_made_once_and_scored_by_the_library(tmp_path: Path) -> None:
    config = Tasks(source="gym", train=9, held_out=7, datasets=DATASETS)
    source = gym.source(config, tmp_path / "tasks")
    train, held_out = (list(source.tasks(split)) for split in ("train", "held_out"))
    assert (len(train), len(held_out)) == (9, 7)
    assert [task.metadata["metadata"]["source_dataset"] for task in train[:3]] == DATASETS
    questions = [task.question for task in train + held_out]
    assert len(set(questions)) == len(questions)
    assert list(gym.source(Tasks(source="gym", seed=1), tmp_path / "tasks").tasks("train")) == train  # what is there
    for task in train:
        assert worth(source, task.answer, task) == 1.0
        scorer = reasoning_gym.create_dataset(task.metadata["metadata"]["source_dataset"], seed=0, size=1)
        for answer in ("", "nonsense", "12", None):
            assert worth(source, answer, task) == scorer.score_answer(answer, task.metadata)


def test_the_seed_decides(tmp_path: Path) -> None:
    made = [
        [
            t.question
            for t in gym.source(Tasks(source="gym", seed=s, train=4, datasets=DATASETS), tmp_path / n).tasks("train")
        ]
        for s, n in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert made[0] == made[1] != made[2]


def test_a_dataset_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"makes no 'no_such_thing'"):
        gym.source(Tasks(source="gym", datasets=["no_such_thing"]), tmp_path / "a")
    with pytest.raises(InputError, match=r"tasks.datasets is empty"):
        gym.source(Tasks(source="gym"), tmp_path / "b")


# many answers are right, and none is named
GOLD_IS_NONE = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}


@pytest.mark.parametrize("name", sorted(set(DATASETS_THERE) - {"composite"}))
def test_every_dataset_is_scored_as_the_library_does_whatever_is_answered(tmp_path: Path, name: str) -> None:
    source = gym.source(Tasks(source="gym", train=1, held_out=0, datasets=[name]), tmp_path / "tasks")
    (task,) = source.tasks("train")
    score, gold = reasoning_gym.get_score_answer_fn(name), task.metadata["answer"]
    assert worth(source, gold, task) == float(name not in GOLD_IS_NONE)
    for answer in ("I do not know", "{}", "[[1]]", "", None):
        try:
            expected = score(answer, task.metadata)
        except Exception:  # it is not in the form that this scorer reads
            expected = 0.0
        assert worth(source, answer, task) == expected


def test_no_answer_is_executed_here(tmp_path: Path) -> None:
    source = gym.source(Tasks(source="gym", train=1, held_out=0, datasets=["spiral_matrix"]), tmp_path / "tasks")
    (task,) = source.tasks("train")
    owned = tmp_path / "owned"
    source.score(f"[__import__('pathlib').Path({str(owned)!r}).write_text('x')]", task)
    assert not owned.exists()
