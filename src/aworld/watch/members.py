"""The workers of the work in hand, and the trainer: where each runs, how often it began again, what it played."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aworld.config import Config
from aworld.locks import is_held
from aworld.phase import Phase
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, ROLLOUT, TRAIN, Stage, stage_name
from aworld.watch.files import starts
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
    return _member("trainer", (stage.task_of(0) for stage in stages), jobs, config)


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
        if member := _member(name, (stage.task_of(number) for stage in stages), jobs, config):
            found[name] = member
    for name in heads.episodes:  # also of a second copy, where Slurm lost sight of the first one
        found.setdefault(name, Member(name, ""))
    return [
        replace(member, episodes=heads.episodes.get(name, 0), silent=heads.silent(name))
        for name, member in found.items()
    ]


def _member(name: str, tasks: Iterable[Stage], jobs: Jobs, config: Config) -> Member | None:
    """The one of these tasks that began last; before any did, one that has a job; None: there is neither."""
    found: list[tuple[float, Member]] = []
    for task in tasks:
        began, state = starts(task.run.starts / f"{task.name}.jsonl"), _state(task, jobs, config)
        if began:
            last = began[-1]
            found.append((last["time"], Member(name, state or ENDED, last.get("node", ""), len(began) - 1)))
        elif state:
            found.append((0.0, Member(name, state)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _state(task: Stage, jobs: Jobs, config: Config) -> str:
    """Slurm's word for the task's element, elsewhere whether its lock is held; empty: nothing is known."""
    stage = stage_name(task.kind, task.number, task.benchmark)
    element = (task.task or 0) // task.resources.tasks
    for each in jobs.queued:
        if (each.submission.stage, each.element) == (stage, element) and each.state == "PENDING":
            return f"waits ({each.reason})"
    if state := jobs.states.get((stage, element)):
        return state.lower()
    if config.site.executor == "slurm":
        return ""  # to try a lock is to hold it for a moment: a job that begins then would believe another has it
    return RUNNING if task.lock.exists() and is_held(task.lock) else ""
