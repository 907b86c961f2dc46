"""Where the time goes: the phases of the last finished round, and of the episodes and workers of the work in hand."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from aworld.rundir import RunDir
from aworld.stages import GATHER, ROLLOUT, TRAIN, Kind
from aworld.trajectories.record import Record
from aworld.watch.files import job_rows
from aworld.watch.members import RUNNING, Member
from aworld.watch.queue import Queued

PHASES = {ROLLOUT: "rollout", GATHER: "gather", TRAIN: "training"}
LONG = 30.0  # seconds; a unit in hand, or a worker without an episode, is not named before
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Such as 7.5 s, 45 s, 3 min 20 s, 2 h 10 min or 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    first = next(at for at, (size, _) in enumerate(UNITS) if left >= size)
    parts = []
    for size, name in UNITS[first : first + 2]:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
    return " ".join(parts)


def phases(run: RunDir, number: int) -> dict[Kind, float]:
    """The seconds of each stage of a finished round. Reads two files of its folder."""
    timing, metrics = (_json(run.round(number) / f"{name}.json") for name in ("timing", "metrics"))
    found = {ROLLOUT: timing.get("rollout_seconds"), GATHER: timing.get("gather_seconds")}
    found[TRAIN] = metrics.get("seconds", {}).get("train")
    return {kind: seconds for kind, seconds in found.items() if seconds is not None}


def of_episodes(records: Sequence[Record]) -> Iterator[str]:
    """How the time of an episode is spent, and which one took longest."""
    if not records:
        return
    mean = {
        phase: fmean(record.seconds.get(phase, 0.0) for record in records)
        for phase in ("total", "generate", "tools", "stalled", "wait")
    }
    parts = [f"model {duration(mean['generate'])}", f"tools {duration(mean['tools'])}"]
    parts += [f"stalled {duration(mean['stalled'])}"] if mean["stalled"] >= 0.05 else []
    parts += [f"before it {duration(mean['wait'])} for a sandbox"] if mean["wait"] >= 0.5 else []
    yield f"an episode takes {duration(mean['total'])}: {', '.join(parts)}"
    longest = max(records, key=lambda record: record.seconds.get("total", 0.0))
    name = f"{longest.task_id}/{longest.attempt}"
    yield f"longest: {name}, {duration(longest.seconds.get('total', 0.0))}, {longest.turns} turns, {longest.status}"


def of_workers(members: Sequence[Member]) -> Iterator[str]:
    """The worker at work that recorded nothing for the longest time."""
    silent = [(member.silent, member) for member in members if member.state == RUNNING and member.silent is not None]
    if silent:
        seconds, member = max(silent, key=lambda one: one[0])
        if seconds < LONG:
            return
        where = f" on {member.node}" if member.node else ""
        yield f"{member.name}{where}: no episode for {duration(seconds)}"


def of_queue(run: RunDir, queued: Sequence[Queued]) -> Iterator[str]:
    """The job that has waited longest for something else than another job."""
    waiting = {q.submission.job: q for q in queued if q.state == "PENDING" and "Dependency" not in q.reason}
    rows = [row for row in job_rows(run) if row.get("job") in waiting and "time" in row] if waiting else []
    if rows:
        first = min(rows, key=lambda row: row["time"])
        one = waiting[first["job"]]
        yield f"{one.submission.stage} waits {duration(time.time() - first['time'])} in the queue ({one.reason})"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
