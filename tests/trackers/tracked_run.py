"""A made-up run with three rounds and two evaluations, and the figures that a tracker has to show of them."""

import json
from pathlib import Path

from aworld import config as configuration
from aworld.publish import mark_complete, publish_json, publish_text
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks import make_source
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

WORDS = "recipe=demo name=tracked tasks.train=4 tasks.held_out=2 evaluation.attempts=2 site.hardware=h100".split()
REWARDS = {0: [1.0, 1.0], 1: [0.0, 1.0], 2: [1.0, 0.0]}  # of each round's two episodes
LOSS = {0: 2.5, 1: 0.25, 2: -0.125}


def make(folder: Path, *words: str) -> RunDir:
    """The run after round 1, and the evaluation of policy 0."""
    config = configuration.load([*WORDS, f"runs={folder}", *words])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    for number in (0, 1):
        finish_round(run, number)
    evaluate(run, 0, 0.0)
    return run


def finish_round(run: RunDir, number: int) -> None:
    """As the stages leave a round behind."""
    folder = run.round(number)
    folder.mkdir(parents=True)
    played = [_episode(number, "a", attempt, reward) for attempt, reward in enumerate(REWARDS[number])]
    file.write(run.trajectories(number), arrays.from_episodes(number, played))
    timing = {"rollout_seconds": 4.0, "load_seconds": 1.0, "gather_seconds": 0.5}
    publish_json(folder / "timing.json", timing)
    publish_json(folder / "tools.json", {"calls": 8, "errors": 2})
    publish_json(folder / "rewards.json", {"parts": {"exact": 0.75}, "not_scored": {"it raised": 1}})
    metrics = {"loss": LOSS[number], "entropy": 0.5, "mismatch_mean": 0.001, "clip_fraction": 0.0625}
    metrics |= {"tokens_trained": 6, "seconds": {"train": 2.0, "wait": 3.0}}
    publish_json(folder / "metrics.json", metrics | {"computed": {"tokens": 10, "squares": 50}})
    run.policy(number).mkdir(parents=True)
    mark_complete(run.policy(number))


def evaluate(run: RunDir, version: int, reward: float) -> None:
    config = configuration.read(run.config)
    with Journal(run.evaluation(HELD_OUT, version) / "journals" / "worker-0.journal") as log:
        for task in make_source(config.tasks, run.tasks).tasks(HELD_OUT.replace("-", "_")):
            for attempt in range(2):
                log.append(_episode(version, task.task_id, attempt, reward, task.level))
    publish_json(run.evaluation(HELD_OUT, version) / "timing.json", {})


def _episode(round_: int, task: str, attempt: int, reward: float, level: int = 1) -> Episode:
    seconds = {"wait": 1.0, "generate": 6.0, "tools": 2.0, "total": 9.0}
    turns = [Turn("tool", "no such file", "files", {}, is_error=attempt == 1), Turn("assistant", "done")]
    tokens = ([1] * 5, [0, 0, 1, 1, 1], [0.0] * 5)
    return Episode(round_, task, attempt, level, "?", *tokens, turns, "x", reward, "answered", seconds, round_, 0)


def written(run: RunDir, name: str) -> int:
    """The number of entries that the tracker's state has as written."""
    path = run.root / "trackers" / f"{name}.json"
    found: int = json.loads(path.read_text())["written"] if path.exists() else 0
    return found
