"""How far each stage of a run is, read from its files alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aworld.config import Config
from aworld.errors import InputError
from aworld.evaluation import benchmark
from aworld.publish import MARK, read_jsonl
from aworld.rollout.outcome import Outcome, look, outcomes
from aworld.rollout.units import is_closed, standing, units_left
from aworld.rollout.workload import Workload, evaluation_workload, evaluation_workloads, is_planned, schedule
from aworld.rundir import RunDir, numbered
from aworld.stages import EVALUATE, GATHER, ROLLOUT, TRAIN, Kind
from aworld.tasks import make_source

TRAINED_ON = (ROLLOUT, GATHER, TRAIN)  # the stages of a round


@dataclass(frozen=True)
class Spread:
    """Groups with spread, `found` of `wanted`; and the `share` of the groups played that have one reward, 0 to 1."""

    found: int
    wanted: int
    share: float


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is.

    Attributes:
        workload: the name of what is played, such as round 3.
        done: of `total` units: tasks with all their attempts, or optimizer steps.
        finished: its result is published.
        loss: of the last optimizer step.
        spread: of a round that plays further tasks in the place of those whose attempts have one reward.
        in_hand: units that a worker has claimed, and not done.
    """

    kind: Kind
    workload: str
    done: int
    total: int
    finished: bool
    loss: float | None = None
    spread: Spread | None = None
    in_hand: int = 0

    @property
    def is_begun(self) -> bool:
        return bool(self.done or self.in_hand)


@dataclass(frozen=True)
class Tally:
    """Episodes played, of `total`; how many of them `failed`; and their mean reward, None where nothing is scored.

    `not_scored` counts the errors that the reward raised.
    """

    played: int
    total: int
    failed: int
    reward: float | None
    not_scored: Mapping[str, int] = field(default_factory=dict)


def status(
    config: Config, run: RunDir, workloads: list[Workload] | None = None, over: Mapping[str, Outcome] | None = None
) -> list[StageStatus]:
    """The status of every stage, in the order in which they run.

    Looks into the folders of workloads that are under way, however many are finished or wait.

    Args:
        over: the finished workloads; None: they are looked up.
    """
    if workloads is None:
        workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    if over is None:
        over = outcomes(run, workloads)
    newest, there = run.newest_policy(), {path.name for path in numbered(run.root / "rounds")}
    found: list[StageStatus] = []
    for workload in workloads:
        if outcome := over.get(workload.name):
            found += _finished(workload, outcome)
        elif workload.folder.name in there if workload.phase.is_trained_on else workload.round <= newest:
            found += _under_way(workload)
        else:
            found += _waiting(workload)
    return found


def _finished(workload: Workload, outcome: Outcome) -> list[StageStatus]:
    name, units = workload.name, outcome.units
    if not workload.phase.is_trained_on:
        return [StageStatus(EVALUATE, name, units, units, True)]
    steps = outcome.steps or 1
    return [
        StageStatus(ROLLOUT, name, units, units, True, spread=_spread(units, outcome.of_one_reward, workload.enough)),
        StageStatus(GATHER, name, 1, 1, True),
        StageStatus(TRAIN, name, steps, steps, True, outcome.loss),
    ]


def _under_way(workload: Workload) -> list[StageStatus]:
    seen, name = standing(workload), workload.name
    total, done = len(seen.units), len(seen.done)
    finished = is_closed(workload) and not units_left(workload)
    spread = _spread(done, len(seen.of_one_reward), workload.enough)
    kind = ROLLOUT if workload.phase.is_trained_on else EVALUATE
    in_hand = 0 if finished else len(seen.in_hand)
    played = StageStatus(kind, name, total if finished else done, total, finished, spread=spread, in_hand=in_hand)
    if not workload.phase.is_trained_on:
        return [played]
    return [played, StageStatus(GATHER, name, int(finished), 1, finished), _training(workload)]


def _waiting(workload: Workload) -> list[StageStatus]:
    total = len(workload.tasks) if workload.enough is None else workload.enough
    if not workload.phase.is_trained_on:
        return [StageStatus(EVALUATE, workload.name, 0, total, False)]
    return [StageStatus(kind, workload.name, 0, total if kind == ROLLOUT else 1, False) for kind in TRAINED_ON]


def on_benchmark(run: RunDir, name: str, version: int) -> Workload:
    """The workload of a policy on a benchmark that was begun."""
    config, _, source = benchmark.read(run, name)
    return evaluation_workload(config, run, source, version, name)


def begun(run: RunDir) -> tuple[list[Workload], list[str]]:
    """The workloads on all benchmarks that were begun; and a line for each whose tasks cannot be read any more."""
    workloads, unreadable = [], []
    for path in sorted((run.root / "evals").glob("*/config.yaml")):
        name = path.parent.name
        try:
            config, _, source = benchmark.read(run, name)
            versions = [int(folder.name) for folder in numbered(path.parent)]
            workloads += evaluation_workloads(config, run, source, versions, name)
        except InputError as reason:
            unreadable.append(f"{name} is left out: {reason}")
    return workloads, unreadable


def never_played(config: Config, workload: Workload) -> bool:
    """Whether an evaluation that a person asked for failed before its first episode: it says nothing of the run."""
    return bool(workload.benchmark) and not is_planned(config, workload) and not benchmark.is_begun(workload.folder)


def tally(workload: Workload, outcome: Outcome | None = None) -> Tally:
    """The episodes so far. `outcome`: of the workload, where it is known."""
    found = outcome or look(workload)
    is_scored = bool(found.episodes) and (
        workload.phase.is_trained_on or not all(task.is_withheld for task in workload.tasks)
    )
    total = found.units * found.attempts
    if workload.conversations:
        total = sum(len(workload.attempts_at(task)) for task in workload.tasks)
    return Tally(found.episodes, total, found.failed, found.reward if is_scored else None, found.not_scored)


def estimated_end(config: Config, run: RunDir) -> float | None:
    """Expected time of the last policy by the pace so far, in seconds since 1970; None: too early to tell."""
    there = [int(path.name) for path in numbered(run.policy(0).parent)]
    first, last = (_first_made(run, versions) for versions in (there, reversed(there)))
    if first is None or last is None or first[0] == last[0] or last[0] >= config.pipeline.rounds:
        return None
    (one, began), (other, ended) = first, last  # between them some may have been removed
    return ended + (config.pipeline.rounds - other) * (ended - began) / (other - one)


def _first_made(run: RunDir, versions: Iterable[int]) -> tuple[int, float] | None:
    """The first of these policies that is published, and when that was."""
    marks = ((version, run.policy(version) / MARK) for version in versions)
    return next(((version, mark.stat().st_mtime) for version, mark in marks if mark.exists()), None)


def _spread(played: int, of_one_reward: int, wanted: int | None) -> Spread | None:
    if wanted is None or not played:
        return None
    return Spread(played - of_one_reward, wanted, of_one_reward / played)


def _training(workload: Workload) -> StageStatus:
    """Of a round whose policy is not published yet."""
    steps = read_jsonl(workload.folder / "steps.jsonl")
    if not steps:
        return StageStatus(TRAIN, workload.name, 0, 1, False)
    return StageStatus(TRAIN, workload.name, steps[-1]["step"], steps[-1]["of"], False, steps[-1]["loss"])
