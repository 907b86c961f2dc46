"""The workers of the work in hand, and the trainer: where each runs, how often it began again, what it played."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from aworld.config import Config
from aworld.locks import is_held
from aworld.phase import Phase
from aworld.publish import read_jsonl
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, ROLLOUT, TRAIN, Stage, stage_name
from aworld.watch.heads import Heads
from aworld.watch.jobs import Jobs

RUNNING, ENDED = "running", "ended"


@dataclass(frozen=True)
class Member:
    """A worker, or the trainer.

    Attributes:
        state: Slurm's word, with the reason where it waits; on this machine RUNNING or ENDED.
        node: on which it began last; empty before that.
        restarts: how often it began again.
        episodes: that it recorded of the workload; None: it plays none.
        silent: seconds since it recorded one; None: it recorded none.
    """

    name: str
    state: str
    node: str = ""
    restarts: int = 0
    episodes: int | None = None
    silent: float | None = None


def trainer(config: Config, run: RunDir, number: int, jobs: Jobs) -> Member | None:
    """The first rank of the training of this round, or of all rounds; None: it has no job and never began."""
    stages = (Stage.of(TRAIN, config, run, each) for each in (None, number))
    return _member("trainer", (stage.task_of(0) for stage in stages), jobs)


def workers(config: Config, run: RunDir, workload: Workload, heads: Heads, jobs: Jobs) -> list[Member]:
    """The workers of a workload, by their numbers: those that its stage has, and each that has a journal.

    Looks at the starts of each, and on this machine at its lock, however many rounds there are.
    """
    kind = EVALUATE if workload.phase is Phase.EVALUATION else ROLLOUT
    stages = [Stage.of(kind, config, run, workload.round, workload.benchmark)]
    if not workload.benchmark:
        stages.append(Stage.of(ROLLOUT, config, run))  # of a resident run: its workers live through all rounds
    found: dict[str, Member] = {}
    for number in range(max(stage.resources.workers for stage in stages)):
        name = f"worker-{number}"
        if member := _member(name, (stage.task_of(number) for stage in stages), jobs):
            found[name] = member
    for name in heads.episodes:  # also of a second copy, where Slurm lost sight of the first one
        found.setdefault(name, Member(name, ""))
    return [
        replace(member, episodes=heads.episodes.get(name, 0), silent=heads.silent(name))
        for name, member in found.items()
    ]


def _member(name: str, tasks: Iterable[Stage], jobs: Jobs) -> Member | None:
    """The one of these tasks that began last; before any did, one that has a job; None: there is neither."""
    found: list[tuple[float, Member]] = []
    for task in tasks:
        starts, state = _starts(task.run.starts / f"{task.name}.jsonl"), _state(task, jobs)
        if starts:
            last = starts[-1]
            found.append((last["time"], Member(name, state or ENDED, last.get("node", ""), len(starts) - 1)))
        elif state:
            found.append((0.0, Member(name, state)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _state(task: Stage, jobs: Jobs) -> str:
    """Slurm's word for the task's element, else whether its lock is held; empty: nothing is known."""
    stage = stage_name(task.kind, task.number, task.benchmark)
    element = (task.task or 0) // task.resources.tasks
    for each in jobs.queued:
        if (each.submission.stage, each.element) == (stage, element) and each.state == "PENDING":
            return f"waits ({each.reason})"
    if state := jobs.states.get((stage, element)):
        return state.lower()
    return RUNNING if task.lock.exists() and is_held(task.lock) else ""


def _starts(path: Path) -> list[dict[str, Any]]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _read(path: Path, _: int, __: int) -> list[dict[str, Any]]:
    """The starts in a file, which is read again once it has changed."""
    return read_jsonl(path)
