"""The installed wheel, outside of any clone: it brings its configurations along, and runs with files of one's own."""

from pathlib import Path

import pytest
from wheel import User

from aworld.publish import is_complete
from aworld.rundir import RunDir

pytestmark = [pytest.mark.engine, pytest.mark.deep]
ROOT = Path(__file__).parents[1]

SITE = """
name: mine
rollout: {elements: 1}
evaluate: {elements: 1}
gather: {tasks_per_node: 1}
train: {tasks_per_node: 2}
poll_seconds: 0.2
"""
ALGORITHM = "from aworld.training.algorithms.grpo import make\n"


def test_a_cold_start_with_a_site_and_an_algorithm_of_ones_own(user: User) -> None:
    site = user.home / "aworld" / "site" / "mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text(SITE)
    (user.place / "mine.py").write_text(ALGORITHM)

    demo = ["recipe=demo", "site=mine"]
    assert "GPU-hours" in user.aworld("plan", *demo)
    words = [*demo, "name=first", "training.algorithm=mine.py", "tasks.train=8", "tasks.held_out=2"]
    few = ["pipeline.rounds=0", "pipeline.evaluations=[]", "training.cold_start={tasks: 2, epochs: 1}"]
    assert "would be launched on site 'mine'" in user.aworld("pipeline", *words, "--dry-run", *few)
    user.aworld("pipeline", *words, *few)
    run = RunDir(user.place / "runs" / "first")
    assert is_complete(run.policy(0)) and (run.own / "mine.py").read_text() == ALGORITHM
    assert "finished before: cold start" in user.aworld("launch", "train", str(run.root), "--round", "0")
    user.aworld("sbatch", "scripts", "site=example")
    shipped = (ROOT / "sbatch" / "train.sbatch").read_text()
    written = (user.place / "scripts" / "train.sbatch").read_text()
    assert written == shipped.replace(".venv/bin/python", str(user.python))
