"""The lines that a person reads while a run is under way."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from aworld import config as configuration
from aworld.publish import publish_folder, publish_json, publish_text
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.watch.progress import Progress
from aworld.watch.status import Spread, status, tally

pytestmark = pytest.mark.unit
WORDS = ["recipe=demo", "tasks.train=8", "tasks.held_out=2", "training.cold_start.tasks=4", "pipeline.rounds=2"]


def finish(run: RunDir, number: int, **metrics: object) -> None:
    publish_text(run.trajectories(number), "")
    publish_json(run.round(number) / "metrics.json", {"seconds": {"train": 1.0}, "steps": 3, **metrics})
    publish_folder(run.policy(number), lambda folder: (folder / "model.safetensors").write_bytes(b""))


def test_each_line_says_what_was_learned(tmp_path: Path) -> None:
    config = configuration.load([*WORDS, "training.cold_start.stop_at=0.25"])
    run, out = RunDir(tmp_path), StringIO()
    workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    console = Console(file=out, width=80)
    with Progress(console, config, run, workloads) as progress:
        progress.update()
        finish(run, 0, reward=1.0, repeats=0.11)
        finish(run, 1, reward=0.5, groups=4, groups_of_one_reward=1)
        progress.update()
        finish(run, 2, reward=0.0, groups=4, groups_of_one_reward=4)
        progress.update()
    cold, first, second = out.getvalue().splitlines()
    assert "reward of the expert 1.000" in cold and "chance 0.110; stop_at 0.25 not reached" in cold
    assert "reward 0.500" in first and "nothing to learn" not in first
    assert "in all 4 groups every attempt has one reward: nothing to learn from" in second
    with Progress(console, config, run, workloads) as again:
        again.update()
        again.update()
    assert out.getvalue().splitlines()[3:] == ["finished before: cold start, round 1, round 2"]


def test_a_round_with_further_tasks_says_how_many_groups_have_spread(tmp_path: Path) -> None:
    config = configuration.load([*WORDS, "rollout.tasks_per_round=2", "rollout.oversample=2", "pipeline.rounds=1"])
    run, out = RunDir(tmp_path), StringIO()
    played = schedule(config, run, make_source(config.tasks, run.tasks))[2]
    ours = claims_of(played, "worker-0", 60)
    for has_spread in (True, False):
        unit = ours.claim(units(played))
        assert unit
        ours.mark_done(unit, has_spread)
    rollout = status(config, run, [played])[0]
    assert (rollout.done, rollout.total, rollout.spread) == (2, 3, Spread(1, 2, 0.5))
    with Progress(Console(file=out, width=80), config, run, [played]) as progress:
        progress.update()
        unit = ours.claim(units(played))
        assert unit
        ours.mark_done(unit)
        finish(run, 1, reward=0.5, groups=3, groups_of_one_reward=1)
        progress.update()
    assert "2 of 3 groups with spread, wanted 2" in out.getvalue()
    assert (status(config, run, [played])[0].total, tally(played).total) == (3, 3 * config.rollout.group_size)
