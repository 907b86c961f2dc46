"""The seconds that tasks may take, as earlier rounds and evaluations measured them: the longest are begun first.

Beside each round lies a table of all tasks so far, made of the table before it and of the round's own seconds. So a
worker reads one table and one round, however long the run is.
"""

import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from aworld.errors import InfrastructureError
from aworld.phase import Phase
from aworld.publish import publish_text
from aworld.rollout.workload import Workload
from aworld.rundir import numbered
from aworld.trajectories import file, journal

SECONDS = "seconds.json"  # in the folder of a round: the table after it
Means = tuple[dict[str, float], dict[int, float]]  # seconds of an episode, without its wait for a slot: by task, level


def expected_seconds(workload: Workload) -> Means:
    """The mean seconds of an episode, by task and by level, as far as anything is known.

    Of an evaluation, an earlier one on the same tasks counts first. Reads the newest table and the episode tables of
    the rounds after it, and the heads of the earlier evaluation's journals, once a process. A round keeps the table.
    """
    gathered = tuple(path for path in workload.earlier if path.exists())
    keeps = workload.phase is Phase.ROUND
    tasks, levels = _of_rounds(gathered, gathered[0].stat().st_mtime_ns, keeps) if gathered else ({}, {})
    if workload.phase is Phase.EVALUATION and (timing := _evaluated_before(workload)):
        found = _of_evaluation(timing.parent, timing.stat().st_mtime_ns)
        tasks, levels = tasks | found[0], levels | found[1]
    return tasks, levels


@lru_cache(maxsize=8)
def _of_rounds(gathered: tuple[Path, ...], _: int, keeps: bool) -> Means:
    """Of trajectories, the newest first. The newest measure of a task counts, and the newest round's of a level."""
    tables = [path.parent / SECONDS for path in gathered]
    read = ((at, _table(table)) for at, table in enumerate(tables))
    known, tasks = next(((at, found) for at, found in read if found is not None), (len(tables), {}))
    levels: dict[int, float] = {}
    for path in reversed(gathered[: max(known, 1)]):
        found = _of_round(path)
        tasks, levels = tasks | found[0], found[1] or levels
    if known and keeps and not tables[0].exists():
        with suppress(OSError):  # the next one makes it again
            publish_text(tables[0], json.dumps(tasks) + "\n")
            for old in tables[2:]:  # another worker may read the one before this
                old.unlink(missing_ok=True)
    return tasks, levels


def _table(path: Path) -> dict[str, float] | None:
    """The table of a round; None: there is none, or another worker removes it."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def _of_round(path: Path) -> Means:
    try:
        rows, _tokens = file.read_table(path)
    except InfrastructureError:  # damaged: a reader that needs more than an order of work says so
        return {}, {}
    seconds = rows["seconds_generate"].astype(float) + rows["seconds_tools"]
    tasks, levels = rows["task_id"], rows["level"]
    by_task = {name.decode(): round(float(seconds[tasks == name].mean()), 3) for name in set(tasks)}
    return by_task, {int(level): float(seconds[levels == level].mean()) for level in set(levels)}


def _evaluated_before(workload: Workload) -> Path | None:
    """The `timing.json` of a finished evaluation of another policy on the same tasks: of the newest one before it, else
    of the first one after it. None: there is none."""
    own, place = workload.round, workload.folder.parent
    others = sorted((int(path.name) for path in numbered(place)), key=lambda number: (number > own, abs(number - own)))
    timings = (place / f"{number:04d}" / "timing.json" for number in others if number != own)
    return next((timing for timing in timings if timing.exists()), None)


@lru_cache(maxsize=8)
def _of_evaluation(folder: Path, _: int) -> Means:
    by_task: dict[str, list[float]] = {}
    by_level: dict[int, list[float]] = {}
    with suppress(InfrastructureError):  # no journal: whoever needs more than an order of work says so
        for record in journal.records(folder / "journals"):
            if record.status != "infra_error":
                seconds = record.seconds.get("generate", 0.0) + record.seconds.get("tools", 0.0)
                by_task.setdefault(record.task_id, []).append(seconds)
                by_level.setdefault(record.level, []).append(seconds)
    return {name: fmean(some) for name, some in by_task.items()}, {n: fmean(some) for n, some in by_level.items()}
