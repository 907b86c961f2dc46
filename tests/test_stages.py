"""A stage's name, command, outputs and lock: other processes find its files by them, also those of an older run."""

from pathlib import Path

import pytest

from aworld.config import Resources
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, GATHER, REPORT, ROLLOUT, TRAIN, Kind, Stage

pytestmark = pytest.mark.unit
CASES = [
    (ROLLOUT, 3, "", "rollout-0003", "rollout R --round 3", ("rounds/0003",)),
    (GATHER, 3, "", "gather-0003", "gather R --round 3", ("rounds/0003",)),
    (TRAIN, 3, "", "train-0003", "train R --round 3", ("policies/0003", "checkpoints/round-*")),
    (EVALUATE, 3, "", "evaluate-0003", "evaluate R --policy 3", ("evals/held-out/0003",)),
    (EVALUATE, 3, "gaia", "evaluate-gaia-0003", "evaluate R --policy 3 --tasks gaia", ("evals/gaia/0003",)),
    (ROLLOUT, None, "", "rollout", "rollout R", ()),
    (TRAIN, None, "", "train", "train R", ()),
    (REPORT, None, "", "report", "report R", ()),
]


@pytest.mark.parametrize(("kind", "number", "benchmark", "name", "command", "outputs"), CASES)
def test_what_a_stage_is_called_and_does(
    kind: Kind, number: int | None, benchmark: str, name: str, command: str, outputs: tuple[str, ...]
) -> None:
    stage = Stage(kind, RunDir(Path("R")), Resources(), number, benchmark)
    assert (stage.name, " ".join(stage.arguments), stage.outputs) == (name, command, outputs)
    task = stage.task_of(2)
    assert (task.name, task.outputs) == (f"{name}-2", outputs)
    assert task.arguments == (*stage.arguments, *(("--worker", "2") if kind in (ROLLOUT, EVALUATE) else ()))
    assert task.lock == Path("R/locks") / ("train.lock" if kind == TRAIN else f"{name}-2.lock")
