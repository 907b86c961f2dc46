"""How far a workload is: its units, those that are left to play, and whether it is closed. Each says what it reads."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from aworld.rollout.claims import Claims, Unit
from aworld.rollout.expected import expected_seconds
from aworld.rollout.workload import Workload
from aworld.rundir import finished, note_finished
from aworld.tasks.task import Task
from aworld.trajectories import journal


@dataclass(frozen=True)
class Standing:
    """How far a workload is, as the marks of its claims tell.

    Attributes:
        units: that are to be played, or were. A round with `enough` finds more of them as it goes on.
        done: of these.
        of_one_reward: of the done ones, those whose attempts all have one reward.
        in_hand: of the others, those that were ever claimed.
    """

    units: list[Unit]
    done: list[Unit]
    of_one_reward: list[Unit]
    in_hand: list[Unit]

    @property
    def is_played(self) -> bool:
        return len(self.done) == len(self.units)


def units(workload: Workload) -> list[Unit]:
    """The units of a workload, longest expected first: by the seconds of the task, or of its level.

    Tasks of which nothing is known come first, those of a higher level before others, as they take more turns. Units
    that are played in the place of others come last, in the order of their tasks: it is the same for every worker, and
    prefers no kind of task. Reads as `expected_seconds`.
    """
    tasks, levels = expected_seconds(workload)

    def order(task: Task) -> tuple[float, int, str]:
        return -tasks.get(task.task_id, levels.get(task.level, inf)), -task.level, task.task_id

    count = len(workload.tasks) if workload.enough is None else workload.enough
    first, later = workload.tasks[:count], workload.tasks[count:]
    return _of(workload, [*sorted(first, key=order), *later])


def _of(workload: Workload, tasks: Sequence[Task]) -> list[Unit]:
    return [Unit(task.task_id, workload.attempts_at(task)) for task in tasks]


def claims_of(workload: Workload, owner: str = "", lease_seconds: float = 0.0) -> Claims:
    """The claims on the units of a workload; without an owner to look at only, as nobody claims under that name."""
    return Claims(workload.folder / "claims", owner, lease_seconds, workload.enough)


def standing(workload: Workload) -> Standing:
    """How far a workload is. Lists the folder of claims once."""
    claims = claims_of(workload)
    marks = claims.marks()
    found = claims.in_play(_of(workload, workload.tasks), marks)  # those that are played first, in any order
    done = [unit for unit in found if unit.key in marks.done]
    in_hand = [unit for unit in found if unit.key in marks.newest and unit.key not in marks.done]
    return Standing(found, done, [unit for unit in done if unit.key in marks.of_one_reward], in_hand)


def is_closed(workload: Workload) -> bool:
    """Whether nothing is left to do, and what depends on it may start. Looks for one file."""
    return (workload.folder / ("trajectories.h5" if workload.phase.is_trained_on else "timing.json")).exists()


def is_played(workload: Workload) -> bool:
    """Whether all units in play are done. Lists the folder of claims."""
    return standing(workload).is_played


def units_left(workload: Workload) -> list[Unit]:
    """The units in play that are not done, or whose records a damaged journal has lost. Lists the journals of a
    workload that is not closed."""
    if workload.phase.is_trained_on and is_closed(workload):
        return []
    seen = standing(workload)  # first: what is done is in a journal already
    done = {unit.key for unit in seen.done}
    lost = {} if is_closed(workload) else _lost(workload, seen.done)
    return [unit for unit in seen.units if unit.key not in done or unit in lost]


def reopen_lost(workload: Workload) -> None:
    """Free the units that are done, but whose records a damaged journal has lost. Says so on stderr. Lists the
    journals."""
    for unit, count in _lost(workload, standing(workload).done).items():  # what is done is in a journal already
        print(f"warning: {count} episodes of {unit.task_id} are lost, and played again", file=sys.stderr)
        _reopen(workload, unit)


def reopen_failed(workload: Workload) -> None:
    """Free the units of an evaluation that have an infrastructure failure on record, or whose records are lost.

    Decodes the journals of a closed evaluation, as their heads do not show damage of tokens or text. Nobody writes to
    them.
    """
    if is_closed(workload):
        journal.strike_out_damaged(workload.folder / "journals")
    reopen_lost(workload)
    failed = {each.task_id for each in journal.records(workload.folder / "journals") if workload.plays_again(each)}
    for unit in standing(workload).done:
        if unit.task_id in failed:
            _reopen(workload, unit)
    if units_left(workload):
        _forget(workload)  # also where more attempts are asked for than before


def _forget(workload: Workload) -> None:
    """Take back the note that a workload is finished."""
    if workload.round in finished(workload.folder.parent):
        note_finished(workload.folder.parent, workload.round, {})


def _reopen(workload: Workload, unit: Unit) -> None:
    _forget(workload)  # first: a unit that is free is then looked at in any case
    if not workload.phase.is_trained_on:  # an evaluation that is not finished holds its policy
        (workload.folder / "timing.json").unlink(missing_ok=True)
        shutil.rmtree(workload.folder / "closing", ignore_errors=True)
    claims_of(workload).reopen(unit)


def _lost(workload: Workload, done: list[Unit]) -> dict[Unit, int]:
    """How many episodes of these units are in no journal, for each unit with any."""
    found = {record.identity for record in journal.records(workload.folder / "journals")}
    counts = {
        unit: sum((workload.round, unit.task_id, attempt) not in found for attempt in unit.attempts) for unit in done
    }
    return {unit: count for unit, count in counts.items() if count}
