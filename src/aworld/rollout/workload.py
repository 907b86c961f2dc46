"""What a run has to play, in order: the cold start's episodes, each round's, and the evaluations."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from math import ceil
from pathlib import Path

from aworld.config import Config
from aworld.errors import InputError
from aworld.phase import Phase
from aworld.publish import is_complete
from aworld.rollout import blocks
from aworld.rollout.blocks import Block
from aworld.rollout.curriculum import Choice
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks import weights as parts_weights
from aworld.tasks.task import Task, TaskSet
from aworld.trajectories.episode import Outcome

EARLIER = 5  # rounds, at most, whose newest trajectories tell how long tasks may take


@dataclass(frozen=True)
class Workload:
    """Some tasks, and so many attempts at each.

    Attributes:
        folder: of its claims and journals.
        round: the number that its episodes carry; of an evaluation, the version of the evaluated policy.
        tasks: in the order of their choice. A Choice of a later round is known once earlier rounds are gathered.
        attempts: per task; of conversations the rows of the largest block. A task with all its attempts is one unit of
            work, so that they share a prefix cache.
        policies: versions of the policy that may play it; empty in the cold start.
        earlier: trajectories of the last rounds before it, the newest first. They tell how long its tasks may take.
        enough: number of groups with spread that end it: later tasks are played only in the place of earlier ones
            without. None: every task is played.
        benchmark: the name of the benchmark that it evaluates on; empty: the run's own tasks.
        conversations: the folder of those that are written down in the place of episodes; its tasks are blocks of them.
    """

    phase: Phase
    name: str
    folder: Path
    round: int
    tasks: Sequence[Task]
    attempts: int
    temperature: float
    policies: range
    earlier: tuple[Path, ...] = ()
    enough: int | None = None
    benchmark: str = ""
    conversations: Path | None = None

    def attempts_at(self, task: Task) -> tuple[int, ...]:
        """The attempts at a task; of a block of conversations its rows."""
        return tuple(range(task.metadata["rows"] if self.conversations else self.attempts))

    def plays_again(self, episode: Outcome) -> bool:
        """Whether an episode is played again once its unit is free: an infrastructure failure spoils a figure.
        Training leaves such an episode out."""
        return self.phase is Phase.EVALUATION and episode.status == "infra_error"


def schedule(config: Config, run: RunDir, source: TaskSet) -> list[Workload]:
    """All that the workers of a run play, in order. A run without rounds and cold start is evaluated by hand only.

    The evaluation of a policy comes after the last round that may be played without that policy.
    """
    if not config.trains:
        return []
    train = list(source.tasks("train"))
    chosen = islice(_chosen(config, run, train), config.pipeline.rounds)
    rounds = [_round(config, run, tasks, number) for number, tasks in enumerate(chosen, 1)]
    cold_start = [_cold_start(config, run, train)] if config.training.cold_start.is_on else []
    versions = config.pipeline.evaluated if HELD_OUT in config.pipeline.evaluation_overrides else []
    evaluations = {each.round: each for each in evaluation_workloads(config, run, source, versions)}
    first, last = ([evaluations.pop(version)] if evaluations else [] for version in (0, config.pipeline.rounds))
    found = [*cold_start, *first]
    for workload in rounds:
        found.append(workload)
        if (due := workload.round - config.pipeline.max_lag) in evaluations:
            found.append(evaluations.pop(due))
    return [*found, *evaluations.values(), *last]


def is_planned(config: Config, workload: Workload) -> bool:
    """Whether an evaluation on a benchmark is part of the run, rather than one that a person asked for."""
    return (
        config.trains
        and workload.benchmark in config.pipeline.evaluation_overrides
        and workload.round in config.pipeline.evaluated
    )


def round_workload(config: Config, run: RunDir, source: TaskSet, number: int) -> Workload:
    """The workload of one round, or of the cold start, which is round 0."""
    train = list(source.tasks("train"))
    if Phase.of(number) is Phase.COLD_START:
        return _cold_start(config, run, train)
    return _round(config, run, next(islice(_chosen(config, run, train), number - 1, None)), number)


def evaluation_workload(config: Config, run: RunDir, source: TaskSet, version: int, name: str = HELD_OUT) -> Workload:
    """The evaluation of policy `version` on the run's own held-out tasks, or on those of the benchmark `name`."""
    return evaluation_workloads(config, run, source, [version], name)[0]


def evaluation_workloads(
    config: Config, run: RunDir, source: TaskSet, versions: Iterable[int], name: str = HELD_OUT
) -> list[Workload]:
    """The evaluations of several policies on the same tasks, which are read once."""
    temperature = config.evaluation.temperature
    tasks = list(source.tasks("held_out"))
    return [
        Workload(
            phase=Phase.EVALUATION,
            name=f"{name}-{version}",
            folder=run.evaluation(name, version),
            round=version,
            tasks=tasks,
            attempts=config.evaluation.attempts,
            temperature=config.agent.temperature if temperature is None else temperature,
            policies=range(version, version + 1),
            earlier=_last_rounds(run, version),
            benchmark="" if name == HELD_OUT else name,
        )
        for version in versions
    ]


def _last_rounds(run: RunDir, newest: int) -> tuple[Path, ...]:
    return tuple(run.trajectories(number) for number in range(newest, max(0, newest - EARLIER), -1))


def _cold_start(config: Config, run: RunDir, train: list[Task]) -> Workload:
    cold, folder = config.training.cold_start, run.conversations
    play = partial(Workload, Phase.COLD_START, "cold start", run.round(0), 0)
    if cold.conversations:
        found = blocks.tasks(folder) if is_complete(folder) else [Block(0, 1, 0).task]  # not cut yet: a dry run
        longest = max(task.metadata["rows"] for task in found)
        return play(found, longest, 0.0, range(0), conversations=folder)
    temperature = 0.0 if cold.has_expert else config.agent.temperature
    return play(train[: cold.tasks], cold.attempts, temperature, range(0))


def _round(config: Config, run: RunDir, tasks: Sequence[Task], number: int) -> Workload:
    enough = config.rollout.tasks_per_round
    return Workload(
        phase=Phase.ROUND,
        name=f"round {number}",
        folder=run.round(number),
        round=number,
        tasks=tasks,
        attempts=config.rollout.group_size,
        temperature=config.agent.temperature,
        policies=range(max(0, number - 1 - config.pipeline.max_lag), number),
        earlier=_last_rounds(run, number - 1),
        enough=enough if len(tasks) > enough else None,
    )


def _chosen(config: Config, run: RunDir, train: list[Task]) -> Iterator[Sequence[Task]]:
    """The tasks of each round, without end, by the curriculum or from shuffled passes. No task is in a round twice.

    Of a mixture, each part has its share.

    A round samples tasks that the cold start has not shown, where there are any, in all and of each part. With
    `rollout.oversample` the tasks behind the first `rollout.tasks_per_round` are there to be played in the place of
    others.
    """
    tasks = train[config.training.cold_start.shown :] or train
    wanted = ceil(config.rollout.tasks_per_round * config.rollout.oversample)
    number = min(len(tasks), wanted)
    parts = {"": (tasks, number)}
    if weights := parts_weights(config.tasks):
        of_part = {name: _of_part(name, tasks) or _of_part(name, train) for name in weights}
        number = min(sum(map(len, of_part.values())), wanted)
        counts = shares(weights, {name: len(some) for name, some in of_part.items()}, number)
        if none := [name for name, share in counts.items() if of_part[name] and not share]:
            raise InputError(
                f"tasks.mixture.{none[0]}.weight={weights[none[0]]:g} is no task of the {number} of a round; raise it, "
                "or rollout.tasks_per_round"
            )
        parts = {name: (of_part[name], share) for name, share in counts.items() if share}
    if config.rollout.rest_passes:
        return (Choice(config, run, list(parts.values()), round_) for round_ in count(1))
    if not weights:
        return _passes(tasks, number, str(config.seed))
    return _mixed([_passes(some, share, f"{config.seed}/{name}") for name, (some, share) in parts.items()], config.seed)


def _of_part(name: str, tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.source == name]


def _mixed(passes: list[Iterator[list[Task]]], seed: int) -> Iterator[list[Task]]:
    """The tasks of each round of a mixture, without end, from the passes of its parts."""
    for number in count():
        chosen = [task for some in passes for task in next(some)]
        random.Random(f"{seed}/mixture/{number}").shuffle(chosen)
        yield chosen


def shares(weights: dict[str, float], sizes: dict[str, int], number: int) -> dict[str, int]:
    """`number` divided by weights, by their names. One with fewer than its share leaves the rest to the others."""
    found: dict[str, int] = {}
    others = dict(weights)
    while full := {
        name for name, share in _shares(others, number - sum(found.values())).items() if share > sizes[name]
    }:
        found |= {name: sizes[name] for name in full}
        others = {name: weight for name, weight in others.items() if name not in full}
    return found | _shares(others, number - sum(found.values()))


def _shares(weights: dict[str, float], number: int) -> dict[str, int]:
    """Each its share rounded down, and one more for those with the largest rest."""
    exact = {name: number * weight / sum(weights.values()) for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: found[name] - exact[name])
    return {name: found[name] + (name in by_rest[: number - sum(found.values())]) for name in found}


def _passes(tasks: list[Task], number: int, seed: str) -> Iterator[list[Task]]:
    """So many different tasks at a time, without end, from shuffled passes over all of them."""
    waiting: deque[Task] = deque()
    passes = 0
    while True:
        chosen: list[Task] = []
        there: set[str] = set()
        twice: list[Task] = []
        while len(chosen) < number:
            if not waiting:
                again = list(tasks)
                random.Random(f"{seed}/{passes}").shuffle(again)
                waiting.extend(again)
                passes += 1
            task = waiting.popleft()
            (twice if task.task_id in there else chosen).append(task)
            there.add(task.task_id)
        waiting.extendleft(reversed(twice))
        yield chosen
