"""reasoning-gym's tasks and scorers, against the library called by hand."""

from pathlib import Path

import pytest
import reasoning_gym

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks import make_source

pytestmark = pytest.mark.unit
DATASETS = ["chain_sum", "leg_counting", "number_sorting"]


def test_tasks_are_made_once_and_scored_by_the_library(tmp_path: Path) -> None:
    config = Tasks(source="gym", train=9, held_out=7, datasets=DATASETS)
    source = make_source(config, tmp_path / "tasks")
    train, held_out = (list(source.tasks(split)) for split in ("train", "held_out"))
    assert (len(train), len(held_out)) == (9, 7)
    assert [task.metadata["metadata"]["source_dataset"] for task in train[:3]] == DATASETS
    questions = [task.question for task in train + held_out]
    assert len(set(questions)) == len(questions)
    assert list(make_source(Tasks(source="gym", seed=1), tmp_path / "tasks").tasks("train")) == train  # what is there
    for task in train:
        assert source.score(task.answer, task) == 1.0
        scorer = reasoning_gym.create_dataset(task.metadata["metadata"]["source_dataset"], seed=0, size=1)
        for answer in ("", "nonsense", "12", None):
            assert source.score(answer, task) == scorer.score_answer(answer, task.metadata)


def test_the_seed_decides(tmp_path: Path) -> None:
    made = [
        [
            t.question
            for t in make_source(Tasks(source="gym", seed=s, train=4, datasets=DATASETS), tmp_path / n).tasks("train")
        ]
        for s, n in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert made[0] == made[1] != made[2]


def test_a_dataset_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"makes no 'no_such_thing'"):
        make_source(Tasks(source="gym", datasets=["no_such_thing"]), tmp_path / "a")
    with pytest.raises(InputError, match=r"tasks.datasets is empty"):
        make_source(Tasks(source="gym"), tmp_path / "b")
