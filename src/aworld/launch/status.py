"""How far each stage of a run is, read from its files alone."""

from dataclasses import dataclass

from aworld.config import Config
from aworld.evaluation import benchmark
from aworld.rollout.claims import Claims
from aworld.rollout.workload import Workload, evaluation_workload, schedule
from aworld.rundir import MARK, RunDir, is_complete, read_jsonl
from aworld.tasks import make_source
from aworld.trajectories import journal


@dataclass(frozen=True)
class StageStatus:
    """`done` of `total` units (tasks with all their attempts, or optimizer steps); `finished` when published."""

    stage: str
    part: str
    done: int
    total: int
    finished: bool
    note: str = ""


def status(config: Config, run: RunDir, workloads: list[Workload] | None = None) -> list[StageStatus]:
    """Every stage in the order it runs."""
    if workloads is None:
        workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    found: list[StageStatus] = []
    for workload in workloads:
        units = len(workload.tasks)
        done = Claims(workload.folder / "claims", "status", config.rollout.lease_seconds).count_done()
        kind = "rollout" if workload.publishes else "evaluate"
        finished = workload.closed and not workload.left
        found.append(StageStatus(kind, workload.name, units if finished else min(done, units), units, finished))
        if workload.publishes:
            found.append(StageStatus("gather", workload.name, int(finished), 1, finished))
            found.append(_training(config, run, workload))
    return found


def on_benchmark(run: RunDir, name: str, version: int) -> Workload:
    """What there is to play of a benchmark that was begun."""
    config, _, source = benchmark.read(run, name)
    return evaluation_workload(config, run, source, version, name)


def begun(run: RunDir) -> list[Workload]:
    """Every benchmark's, of every policy that was evaluated on it."""
    folders = sorted((run.root / "evals").glob("*/[0-9]*"))
    return [
        on_benchmark(run, folder.parent.name, int(folder.name))
        for folder in folders
        if run.benchmark(folder.parent.name).is_file()
    ]


def never_played(run: RunDir, workload: Workload) -> bool:
    """Whether it is a benchmark's whose start failed before the first episode: it says nothing of the run."""
    return run.benchmark(workload.folder.parent.name).is_file() and not benchmark.is_begun(workload.folder)


def tally(workload: Workload) -> str:
    """Episodes finished, failed and left, and their reward so far."""
    episodes = journal.collect(workload.folder / "journals")
    failed = sum(episode.status == "infra_error" for episode in episodes)
    left = len(workload.tasks) * workload.attempts - len(episodes)
    reward = sum(episode.reward for episode in episodes) / max(len(episodes), 1)
    counts = [f"{len(episodes)} done", *([f"{failed} failed"] if failed else []), *([f"{left} left"] if left else [])]
    return f"{', '.join(counts)} · reward {reward:.3f}"


def estimated_end(config: Config, run: RunDir) -> float | None:
    """When the last policy will be there at the pace of the rounds so far, in seconds since 1970; None: too early."""
    marks = [run.policy(version) / MARK for version in range(config.pipeline.rounds + 1)]
    times = [mark.stat().st_mtime for mark in marks if mark.exists()]
    left = len(marks) - len(times)
    return times[-1] + left * (times[-1] - times[0]) / (len(times) - 1) if left and len(times) > 1 else None


def _training(config: Config, run: RunDir, workload: Workload) -> StageStatus:
    finished = is_complete(run.policy(workload.round))
    steps = read_jsonl(run.round(workload.round) / "steps.jsonl")
    if not steps:
        return StageStatus("train", workload.name, int(finished), 1, finished)
    last = steps[-1]
    total = last["step"] if finished else last["of"]  # a cold start may end early
    return StageStatus("train", workload.name, last["step"], total, finished, f"loss {last['loss']:.3f}")
