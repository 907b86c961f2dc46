"""What a run has to play, in order: the cold start's episodes, each round's, and the evaluations."""

import random
import sys
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path

from aworld.config import Config
from aworld.errors import InfrastructureError
from aworld.rollout.claims import Claims, Unit
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks.task import Task, TaskSource
from aworld.trajectories import file, journal
from aworld.trajectories.episode import Episode


@dataclass(frozen=True)
class Workload:
    """Some tasks, so many attempts each, played under one policy.

    Attributes:
        folder: where claims and journals go.
        round: the number the episodes carry; for an evaluation the version of the policy evaluated.
        attempts: per task; one unit of work is a task with all its attempts, so that they share a prefix cache.
        oldest, newest: the policy versions that may play it; both None: a scripted expert does.
        publishes: whether its journals are gathered into trajectories.
        earlier: trajectories of the rounds before it, the newest first: how long its tasks may take.
    """

    name: str
    folder: Path
    round: int
    tasks: list[Task]
    attempts: int
    temperature: float
    oldest: int | None
    newest: int | None
    publishes: bool
    earlier: tuple[Path, ...] = ()

    def plays_again(self, episode: Episode) -> bool:
        """Whether an episode is played anew when its unit is free again: a failure that would spoil a figure. Training
        just leaves it out."""
        return not self.publishes and episode.status == "infra_error"

    @property
    def units(self) -> list[Unit]:
        """Longest expected first: by the task's mean seconds in the last round, or its level's.

        What nothing is known of comes first; by level, as a higher one takes more turns.
        """
        path = next((path for path in self.earlier if path.exists()), None)
        tasks, levels = _mean_seconds(path, path.stat().st_mtime_ns) if path else ({}, {})

        def order(task: Task) -> tuple[float, int, str]:
            return -tasks.get(task.task_id, levels.get(task.level, inf)), -task.level, task.task_id

        return [Unit(task.task_id, tuple(range(self.attempts))) for task in sorted(self.tasks, key=order)]

    @property
    def closed(self) -> bool:
        """Whether nothing is left to do, and what hangs off it may start."""
        return (self.folder / ("trajectories.h5" if self.publishes else "timing.json")).exists()

    @property
    def left(self) -> list[Unit]:
        """Its units that are not played, or whose records a damaged journal has lost."""
        if self.closed and self.publishes:
            return []
        done = Claims(self.folder / "claims", "", 0.0).done_names()  # first: what is done is in a journal already
        found = {episode.identity for episode in journal.collect(self.folder / "journals")}
        return [
            unit
            for unit in self.units
            if unit.key not in done or any((self.round, unit.task_id, a) not in found for a in unit.attempts)
        ]


@lru_cache(maxsize=8)
def _mean_seconds(path: Path, _: int) -> tuple[dict[str, float], dict[int, float]]:
    """Of the episodes in a trajectories file, without their wait for a slot: by task, and by level."""
    try:
        rows, _tokens = file.read_table(path)
    except InfrastructureError:  # damaged: whoever needs more than an order of work says so
        return {}, {}
    seconds = rows["seconds_generate"].astype(float) + rows["seconds_tools"]
    tasks, levels = rows["task_id"], rows["level"]
    by_task = {name.decode(): float(seconds[tasks == name].mean()) for name in set(tasks)}
    return by_task, {int(level): float(seconds[levels == level].mean()) for level in set(levels)}


def round_workload(config: Config, run: RunDir, source: TaskSource, number: int) -> Workload:
    """Round 0 is the scripted expert's; later rounds sample tasks that the expert has not shown."""
    return _round(config, run, list(source.tasks("train")), number)


def _round(config: Config, run: RunDir, train: list[Task], number: int) -> Workload:
    shown = config.training.cold_start.tasks
    if number == 0:
        return Workload("cold start", run.round(0), 0, train[:shown], 1, 0.0, None, None, True)
    unseen = train[shown:] or train
    return Workload(
        name=f"round {number}",
        folder=run.round(number),
        round=number,
        tasks=_chosen(unseen, config.seed, config.rollout.tasks_per_round, number),
        attempts=config.rollout.group_size,
        temperature=config.agent.temperature,
        oldest=max(0, number - 1 - config.pipeline.max_lag),
        newest=number - 1,
        publishes=True,
        earlier=tuple(run.trajectories(n) for n in range(number - 1, 0, -1)),
    )


def evaluation_workload(
    config: Config, run: RunDir, source: TaskSource, version: int, name: str = HELD_OUT
) -> Workload:
    """Of policy `version`, on the run's own held-out tasks or on those of the benchmark `name`."""
    temperature = config.evaluation.temperature
    return Workload(
        name=f"{name}-{version}",
        folder=run.evaluation(name, version),
        round=version,
        tasks=list(source.tasks("held_out")),
        attempts=config.evaluation.attempts,
        temperature=config.agent.temperature if temperature is None else temperature,
        oldest=version,
        newest=version,
        publishes=False,
        earlier=tuple(run.trajectories(n) for n in range(version, 0, -1)),
    )


def reopen_lost(workload: Workload) -> None:
    """Free the units that are done, but whose records a damaged journal has lost; says so on stderr."""
    claims = Claims(workload.folder / "claims", "", 0.0)
    done = claims.done_names()  # first: what is done is in a journal already
    found = {episode.identity for episode in journal.collect(workload.folder / "journals")}
    for unit in workload.units:
        lost = [a for a in unit.attempts if (workload.round, unit.task_id, a) not in found]
        if lost and unit.key in done:
            print(f"warning: {len(lost)} episodes of {unit.task_id} are lost, and played again", file=sys.stderr)
            claims.reopen(unit)


def reopen_failed(workload: Workload) -> None:
    """Free the units of an evaluation in which an infrastructure failure is recorded, as whoever resumes it wants."""
    failed = {e.task_id for e in journal.collect(workload.folder / "journals") if workload.plays_again(e)}
    claims = Claims(workload.folder / "claims", "", 0.0)
    done = claims.done_names()
    for unit in workload.units:
        if unit.task_id in failed and unit.key in done:
            claims.reopen(unit)


def schedule(config: Config, run: RunDir, source: TaskSource) -> list[Workload]:
    """Everything a run plays, in order. One without rounds and cold start is there to be evaluated on benchmarks."""
    if not (config.pipeline.rounds or config.training.cold_start.tasks):
        return []
    train = list(source.tasks("train"))
    rounds = [_round(config, run, train, r) for r in range(1, config.pipeline.rounds + 1)]
    cold = [_round(config, run, train, 0)] if config.training.cold_start.tasks else []
    before, *after = (evaluation_workload(config, run, source, v) for v in sorted({0, config.pipeline.rounds}))
    return [*cold, before, *rounds, *after]


def _chosen(tasks: list[Task], seed: int, count: int, number: int) -> list[Task]:
    """The tasks of round `number`, from shuffled passes over all; none is in a round twice."""
    waiting: list[Task] = []
    chosen: list[Task] = []
    passes = 0
    for _ in range(number):
        chosen = []
        twice: list[Task] = []
        while len(chosen) < min(count, len(tasks)):
            if not waiting:
                waiting = list(tasks)
                random.Random(f"{seed}/{passes}").shuffle(waiting)
                passes += 1
            task = waiting.pop(0)
            (twice if any(task is other for other in chosen) else chosen).append(task)
        waiting = twice + waiting
    return chosen
