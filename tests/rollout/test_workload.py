"""Which tasks a round gets."""

from collections import Counter
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.rollout.workload import round_workload
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks

pytestmark = pytest.mark.unit


def test_no_round_holds_a_task_twice_and_every_pass_holds_all(tmp_path: Path) -> None:
    words = ["recipe=demo", "tasks.train=16", "tasks.held_out=2", "training.cold_start.tasks=0"]
    config = configuration.load([*words, "rollout.tasks_per_round=6"])
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    rounds = [round_workload(config, RunDir(tmp_path), source, number).tasks for number in range(1, 9)]
    assert all(len({task.task_id for task in tasks}) == 6 for tasks in rounds)
    counts = Counter(task.task_id for tasks in rounds for task in tasks)
    assert set(counts.values()) == {3}  # 8 × 6 = 3 × 16
