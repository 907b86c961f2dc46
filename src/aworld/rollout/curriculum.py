"""A curriculum by measured reward: a task that is always or never solved rests, and comes back later.

Attempts at a task that all have one reward teach nothing. With `rollout.rest_passes` such a task is left out for a
while, twice as long each further time in a row. Beside each round lies a table of all tasks so far, made of the table
before it and of the round's own rewards. So a choice reads one table and one round, however long the run is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from math import ceil, inf
from pathlib import Path
from statistics import fmean
from typing import overload

from aworld.config import Config
from aworld.publish import publish_text
from aworld.rollout.spread import has_spread
from aworld.rundir import RunDir
from aworld.tasks.task import Task
from aworld.trajectories import file
from aworld.trajectories.arrays import lost

TASKS = "tasks.json"  # in the folder of a round: the ids of its tasks, in order
MEASURED = "measured.json"  # in the folder of a round: the table after it
KEPT = 5  # tables; an older one can be made again from the trajectories


@dataclass(frozen=True)
class Measured:
    """The last round that measured a task.

    Attributes:
        round: its number.
        attempts: that count.
        reward: their mean.
        alike: rounds in a row, this one included, in which all attempts had one reward.
    """

    round: int
    attempts: int
    reward: float
    alike: int


Table = dict[str, Measured]  # by the ids of the tasks; a task that was never measured is not there


def fold(table: Table, number: int, rewards: Mapping[str, Sequence[float]]) -> Table:
    """The table after round `number`.

    Args:
        rewards: of the attempts that count, by task. A single one measures nothing.
    """
    found = {}
    for name, each in rewards.items():
        if len(each) > 1:
            before = table[name].alike if name in table else 0
            found[name] = Measured(number, len(each), fmean(each), 0 if has_spread(each) else before + 1)
    return table | found


def choose(
    tasks: Sequence[Task], count: int, seed: int, number: int, table: Table, in_hand: Container[str], rest_rounds: int
) -> list[Task]:
    """The tasks of round `number`, a function of the arguments alone.

    The task that was measured longest ago comes first, one that was never measured before it. Resting tasks come last,
    and fill a round that would be short. The seed and the round decide between equals.

    Args:
        in_hand: ids of tasks in earlier rounds that are not in the table yet. They come after all others.
        rest_rounds: rounds that a task rests after its first round of one reward.
    """
    shuffled = list(tasks)
    random.Random(f"{seed}/{number}/curriculum").shuffle(shuffled)

    def order(task: Task) -> tuple[bool, float, int]:
        last = table.get(task.task_id)
        if last is None:
            return task.task_id in in_hand, 0, 0
        rest = rest_rounds * 2.0 ** (min(last.alike, 64) - 1) if last.alike else -inf
        return task.task_id in in_hand, max(0, last.round + rest - number + 1), last.round

    return sorted(shuffled, key=order)[:count]


class Choice(Sequence[Task]):
    """The tasks of a round, once the rounds that decide about them are gathered; until then others stand for them.

    A round that may be played by policy v, or a later one, is chosen by the rewards of rounds 1 to v.

    Args:
        parts: of the tasks that the run trains on, each with the number of its tasks in a round.
    """

    def __init__(self, config: Config, run: RunDir, parts: Sequence[tuple[Sequence[Task], int]], number: int):
        self._config, self._run, self._parts, self._number = config, run, parts, number
        self._found: list[Task] | None = None

    @property
    def awaited(self) -> Path:
        """The trajectories of the last round that decides."""
        return self._run.trajectories(self._last)

    def settle(self) -> bool:
        """Choose, and keep the choice and the table behind it in the run directory; False: it is too early.

        Every process makes the same choice.
        """
        path = self._run.round(self._number) / TASKS
        if not path.exists():
            table = _table(self._run, self._last, self._config.training.stalled_share)
            if table is None:
                return False
            if self._last > 0:
                _keep(self._run.round(self._last) / MEASURED, {name: astuple(row) for name, row in table.items()})
                (self._run.round(max(0, self._last - KEPT)) / MEASURED).unlink(missing_ok=True)
            _keep(path, [task.task_id for task in self._chosen(table)])
        return True

    def _known(self) -> list[Task]:
        if self._found is None:
            path = self._run.round(self._number) / TASKS
            if path.exists():
                by_id = {task.task_id: task for tasks, _ in self._parts for task in tasks}
                self._found = [by_id[name] for name in json.loads(path.read_text())]
            else:
                table = _table(self._run, self._last, self._config.training.stalled_share)
                if table is None:
                    return [task for tasks, count in self._parts for task in tasks[:count]]
                self._found = self._chosen(table)
        return self._found

    @property
    def _last(self) -> int:
        return self._number - 1 - self._config.pipeline.max_lag

    def _chosen(self, table: Table) -> list[Task]:
        before = range(max(1, self._last + 1), self._number)
        earlier = [Choice(self._config, self._run, self._parts, number) for number in before]
        in_hand = {task.task_id for each in earlier for task in each}
        seed, rollout = self._config.seed, self._config.rollout
        found = []
        for tasks, count in self._parts:
            rest = rollout.rest_passes * ceil(len(tasks) * rollout.oversample / count)
            found += choose(tasks, count, seed, self._number, table, in_hand, rest)
        if len(self._parts) > 1:
            random.Random(f"{seed}/{self._number}/parts").shuffle(found)
        return found

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> list[Task]: ...
    def __getitem__(self, at: int | slice) -> Task | list[Task]:
        return self._known()[at]

    def __iter__(self) -> Iterator[Task]:
        return iter(self._known())

    def __len__(self) -> int:
        return sum(count for _, count in self._parts) if self._found is None else len(self._found)


def _table(run: RunDir, number: int, stalled_share: float) -> Table | None:
    """The table after round `number`; None: that round, or one that its table builds on, is not gathered.

    Reads the newest table that is kept, and the episode tables of the rounds after it: one, as a rule.
    """
    first = number
    while first > 0 and not (run.round(first) / MEASURED).exists():
        if not run.trajectories(first).exists():
            return None
        first -= 1
    table: Table = {}
    if first > 0:
        rows = json.loads((run.round(first) / MEASURED).read_text())
        table = {name: Measured(*row) for name, row in rows.items()}
    for each in range(max(first, 0) + 1, number + 1):
        episodes, _ = file.read_table(run.trajectories(each))
        rewards: dict[str, list[float]] = {}
        for row in episodes[~lost(episodes, stalled_share)]:
            rewards.setdefault(row["task_id"].decode(), []).append(float(row["reward"]))
        table = fold(table, each, rewards)
    return table


def _keep(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_text(path, json.dumps(value) + "\n")
