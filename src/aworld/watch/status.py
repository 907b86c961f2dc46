"""How far each stage of a run is, read from its files alone."""

from dataclasses import dataclass

from aworld.config import Config
from aworld.errors import InputError
from aworld.evaluation import benchmark
from aworld.publish import MARK, is_complete, read_jsonl
from aworld.rollout.units import Standing, is_closed, standing, units_left
from aworld.rollout.workload import Workload, evaluation_workload, is_planned, schedule
from aworld.rundir import RunDir, numbered
from aworld.stages import EVALUATE, GATHER, ROLLOUT, TRAIN, Kind
from aworld.tasks import make_source
from aworld.trajectories import journal


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
    """

    kind: Kind
    workload: str
    done: int
    total: int
    finished: bool
    loss: float | None = None
    spread: Spread | None = None


@dataclass(frozen=True)
class Tally:
    """Episodes played, of `total`; how many of them `failed`; their mean reward, None where nothing is scored."""

    played: int
    total: int
    failed: int
    reward: float | None


def status(config: Config, run: RunDir, workloads: list[Workload] | None = None) -> list[StageStatus]:
    """The status of every stage, in the order in which they run."""
    if workloads is None:
        workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    found: list[StageStatus] = []
    for workload in workloads:
        seen = standing(workload)
        total, done = len(seen.units), len(seen.done)
        kind = ROLLOUT if workload.phase.is_trained_on else EVALUATE
        finished = is_closed(workload) and not units_left(workload)
        spread = _spread(seen, workload.enough)
        found.append(StageStatus(kind, workload.name, total if finished else done, total, finished, spread=spread))
        if workload.phase.is_trained_on:
            found.append(StageStatus(GATHER, workload.name, int(finished), 1, finished))
            found.append(_training(config, run, workload))
    return found


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
            workloads += [on_benchmark(run, name, int(folder.name)) for folder in numbered(path.parent)]
        except InputError as reason:
            unreadable.append(f"{name} is left out: {reason}")
    return workloads, unreadable


def never_played(config: Config, workload: Workload) -> bool:
    """Whether an evaluation that a person asked for failed before its first episode: it says nothing of the run."""
    return bool(workload.benchmark) and not is_planned(config, workload) and not benchmark.is_begun(workload.folder)


def tally(workload: Workload) -> Tally:
    """The episodes so far."""
    episodes = journal.records(workload.folder / "journals")
    failed = sum(episode.status == "infra_error" for episode in episodes)
    is_scored = bool(episodes) and (
        workload.phase.is_trained_on or any(task.answer is not None for task in workload.tasks)
    )
    reward = sum(episode.reward for episode in episodes) / len(episodes) if is_scored else None
    return Tally(len(episodes), len(standing(workload).units) * workload.attempts, failed, reward)


def estimated_end(config: Config, run: RunDir) -> float | None:
    """Expected time of the last policy by the pace so far, in seconds since 1970; None: too early to tell."""
    marks = {version: run.policy(version) / MARK for version in range(config.pipeline.rounds + 1)}
    made = {version: mark.stat().st_mtime for version, mark in marks.items() if mark.exists()}
    if len(made) < 2 or config.pipeline.rounds in made:
        return None
    first, last = min(made), max(made)  # between them some may have been removed
    return made[last] + (config.pipeline.rounds - last) * (made[last] - made[first]) / (last - first)


def _spread(seen: Standing, wanted: int | None) -> Spread | None:
    if wanted is None or not seen.done:
        return None
    without = len(seen.of_one_reward)
    return Spread(len(seen.done) - without, wanted, without / len(seen.done))


def _training(config: Config, run: RunDir, workload: Workload) -> StageStatus:
    # Once the next round is trained, the policy may have been removed to make room.
    finished = is_complete(run.policy(workload.round)) or (run.round(workload.round + 1) / "metrics.json").exists()
    steps = read_jsonl(run.round(workload.round) / "steps.jsonl")
    if not steps:
        return StageStatus(TRAIN, workload.name, int(finished), 1, finished)
    last = steps[-1]
    total = last["step"] if finished else last["of"]  # a cold start may end early
    return StageStatus(TRAIN, workload.name, last["step"], total, finished, last["loss"])
