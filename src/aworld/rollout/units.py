"""How far a workload is: its units, those that are left to play, and whether it is closed. Each says what it reads."""

import sys
from functools import lru_cache
from math import inf
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task
from aworld.trajectories import file, journal


def units(workload: Workload) -> list[Unit]:
    """The units of a workload, longest expected first: by the task's mean seconds in the last round, or its level's.

    Tasks of which nothing is known come first, those of a higher level before others, as they take more turns. Reads
    the episode table of the last round's trajectories, once a process.
    """
    path = next((path for path in workload.earlier if path.exists()), None)
    tasks, levels = _mean_seconds(path, path.stat().st_mtime_ns) if path else ({}, {})

    def order(task: Task) -> tuple[float, int, str]:
        return -tasks.get(task.task_id, levels.get(task.level, inf)), -task.level, task.task_id

    attempts = tuple(range(workload.attempts))
    return [Unit(task.task_id, attempts) for task in sorted(workload.tasks, key=order)]


def is_closed(workload: Workload) -> bool:
    """Whether nothing is left to do, and what depends on it may start. Looks for one file."""
    return (workload.folder / ("trajectories.h5" if workload.phase.is_trained_on else "timing.json")).exists()


def is_played(workload: Workload) -> bool:
    """Whether all units are done. Lists the folder of claims."""
    return _claims(workload).all_done(units(workload))


def units_left(workload: Workload) -> list[Unit]:
    """The units that are not done, or whose records a damaged journal has lost. Decodes all journals, unless the
    round is gathered."""
    if workload.phase.is_trained_on and is_closed(workload):
        return []
    done = _claims(workload).done_names()  # first: what is done is in a journal already
    found = _identities(workload)
    return [unit for unit in units(workload) if unit.key not in done or _lost(workload, unit, found)]


def reopen_lost(workload: Workload) -> None:
    """Free the units that are done, but whose records a damaged journal has lost. Says so on stderr. Decodes all
    journals."""
    claims = _claims(workload)
    done = claims.done_names()  # first: what is done is in a journal already
    found = _identities(workload)
    for unit in units(workload):
        lost = _lost(workload, unit, found)
        if lost and unit.key in done:
            print(f"warning: {lost} episodes of {unit.task_id} are lost, and played again", file=sys.stderr)
            claims.reopen(unit)


def reopen_failed(workload: Workload) -> None:
    """Free the units of an evaluation that have an infrastructure failure on record. Decodes all journals."""
    failed = {e.task_id for e in journal.collect(workload.folder / "journals") if workload.plays_again(e)}
    claims = _claims(workload)
    done = claims.done_names()
    for unit in units(workload):
        if unit.task_id in failed and unit.key in done:
            claims.reopen(unit)


def _claims(workload: Workload) -> Claims:
    """Claims to look at: nobody claims under this name."""
    return Claims(workload.folder / "claims", "", 0.0)


def _identities(workload: Workload) -> set[tuple[int, str, int]]:
    return {episode.identity for episode in journal.collect(workload.folder / "journals")}


def _lost(workload: Workload, unit: Unit, found: set[tuple[int, str, int]]) -> int:
    """How many of a unit's episodes are in no journal."""
    return sum((workload.round, unit.task_id, attempt) not in found for attempt in unit.attempts)


@lru_cache(maxsize=8)
def _mean_seconds(path: Path, _: int) -> tuple[dict[str, float], dict[int, float]]:
    """The mean seconds of the episodes in a trajectories file, without their wait for a slot: by task, and by level."""
    try:
        rows, _tokens = file.read_table(path)
    except InfrastructureError:  # damaged: a reader that needs more than an order of work says so
        return {}, {}
    seconds = rows["seconds_generate"].astype(float) + rows["seconds_tools"]
    tasks, levels = rows["task_id"], rows["level"]
    by_task = {name.decode(): float(seconds[tasks == name].mean()) for name in set(tasks)}
    return by_task, {int(level): float(seconds[levels == level].mean()) for level in set(levels)}
