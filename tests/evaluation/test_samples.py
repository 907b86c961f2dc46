"""Which episodes of a run are shown side by side."""

from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_cases import episode

from aworld.evaluation.samples import Comparison, samples
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit


def write(folder: Path, number: int, rewards: dict[str, float], **more: object) -> None:
    with Journal(folder / "journals" / "worker-0.journal") as log:
        for task, reward in rewards.items():
            one: Episode = replace(episode("a", 0), round=number, task_id=task, question=f"{task}?", reward=reward)
            log.append(replace(one, **more))  # type: ignore[arg-type]


def shown(comparison: Comparison) -> dict[str, list[list[str | None]]]:
    return {
        kind: [[sample and sample.key for sample in pair] for pair in pairs] for kind, pairs in comparison.pairs.items()
    }


def test_the_first_and_the_last_round_lie_side_by_side(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run.round(0), 0, {"expert": 1.0})
    write(run.round(1), 1, {"a": 0.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": 1.0, "f": 0.0})
    write(run.round(2), 2, dict.fromkeys("abc", 0.0))
    write(run.round(3), 3, {"f": 1.0, "y": 1.0, "z": 0.25})
    with Journal(run.round(3) / "journals" / "worker-1.journal") as log:
        log.append(replace(episode("a", 0), round=3, task_id="lost", reward=0.0, status="infra_error"))
    (found,) = samples(run, [0, 1, 2, 3])
    assert found.sides == ["Round 1", "Round 3"]
    assert shown(found) == {
        "the highest reward": [["1/b/0", "3/f/0"], ["1/e/0", "3/y/0"]],
        "the lowest reward": [["1/f/0", "3/z/0"], ["1/a/0", None]],  # f was played in both
    }
    assert found.pairs["the highest reward"][0][0].question == "b?"  # type: ignore[union-attr]
    assert set(found.episodes) == {"1/b/0", "3/f/0", "1/e/0", "3/y/0", "1/f/0", "3/z/0", "1/a/0"}


def test_held_out_tasks_are_paired_by_what_became_of_them(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write(run.evaluation("held-out", 0), 0, {"up": 0.0, "more": 0.5, "down": 1.0, "no": 0.0, "yes": 1.0, "old": 0.0})
    write(run.evaluation("held-out", 4), 4, dict.fromkeys("x", 0.0))
    write(run.evaluation("held-out", 8), 8, {"up": 1.0, "more": 0.75, "down": 0.0, "no": 0.0, "yes": 1.0})
    for version in (0, 4, 8):
        (run.evaluation("held-out", version) / "timing.json").touch()
    write(run.evaluation("held-out", 12), 12, {"up": 0.0})  # under way
    (found,) = samples(run, [])
    assert found.sides == ["Policy 0", "Policy 8"]
    assert shown(found) == {
        "better after training": [[f"held-out-{n}/{task}/0" for n in (0, 8)] for task in ("up", "more")],
        "worse after training": [["held-out-0/down/0", "held-out-8/down/0"]],
        "without reward in both": [["held-out-0/no/0", "held-out-8/no/0"]],
        "with the same reward in both": [["held-out-0/yes/0", "held-out-8/yes/0"]],
    }


def test_a_run_that_has_begun_has_one_side_or_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert samples(run, []) == []
    write(run.evaluation("held-out", 0), 0, {"a": 1.0})
    (run.evaluation("held-out", 0) / "timing.json").touch()
    write(run.round(0), 0, {"expert": 1.0})
    training, held_out = samples(run, [0])
    assert (training.sides, held_out.sides) == (["The cold start"], ["Policy 0"])
    assert shown(held_out) == {"the highest reward": [["held-out-0/a/0"]]}
