"""`.eval` logs, written by inspect-ai's own recorder: `inspect view` opens them, its metrics are those of our report.

A log is written sample by sample. inspect's `write_eval_log` takes a log that is in memory as a whole; its recorder,
which its own evaluations use, does not.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalPlan,
    EvalPlanStep,
    EvalRevision,
    EvalSample,
    EvalSpec,
    EvalStats,
    EvalStatus,
    recompute_metrics,
)
from inspect_ai.log._log import EvalMetricDefinition, EvalScorer
from inspect_ai.log._recorders.eval import EvalRecorder
from inspect_ai.model import GenerateConfig, ModelUsage

from aworld.bars import Advance
from aworld.config import Config
from aworld.evaluation import statistics
from aworld.evaluation.attempt import Attempt
from aworld.evaluation.benchmark import Played
from aworld.export.conversation import Reader
from aworld.export.inspect_sample import SCORER, Maker
from aworld.publish import publishing
from aworld.tasks.task import Task


@dataclass(frozen=True)
class Part:
    """What becomes one log: an evaluation of a policy, or a round.

    Attributes:
        name: of the log, such as held-out-24; `task` is held-out.
        model: the name of the model that played.
        folder: of the journals.
        about: for the log's metadata.
    """

    name: str
    task: str
    model: str
    config: Config
    folder: Path
    played: Played[Attempt]
    is_round: bool
    about: dict[str, Any]

    def is_scored(self, task: Task) -> bool:
        """Whether the task counts: an evaluation leaves out those that nothing here decides about, as its report."""
        return self.is_round or not task.is_withheld


def export(output: Path, part: Part, reader: Reader | None, advance: Advance) -> str:
    """Publish the log of one part; returns what was written, in words. `advance` is called for each attempt.

    Raises:
        InfrastructureError: a journal is damaged.
    """
    path = output / f"{part.name}.eval"
    with publishing(path) as temporary:
        log = asyncio.run(_write(temporary, part, reader, advance))
    scores = log.results.scores if log.results else []
    score = f", {next(iter(scores[0].metrics.values())).value:.1%}" if scores else ""
    return f"{path.name}: {len(part.played.tasks)} tasks × {part.played.attempts}{score}"


async def _write(path: Path, part: Part, reader: Reader | None, advance: Advance) -> EvalLog:
    played, agent = part.played, part.config.agent
    scored = {task.task_id for task in played.tasks if part.is_scored(task)}
    is_binary = statistics.measure(e for e in played.episodes if e.task_id in scored) == statistics.PASS_AT_1
    began, ended = _times(part.folder)
    limits = {"max_turns": agent.max_turns, "max_tokens": agent.max_tokens, "timeout": agent.episode_seconds}
    maker = Maker(part.model, limits, is_binary, began, reader)
    spec = _spec(part, began, is_binary)
    recorder = EvalRecorder(str(path.parent))
    await recorder.log_init(spec, str(path), clean=True)
    plan = EvalPlan(steps=[EvalPlanStep(solver="aworld", params={})])
    await recorder.log_start(spec, plan)
    light: list[EvalSample] = []  # what metrics are computed of
    usage = ModelUsage()
    attempts = {(attempt.task_id, attempt.attempt): attempt for attempt in played.episodes}
    for task in played.tasks:
        for number in range(played.attempts):
            attempt, counts = attempts.get((task.task_id, number)), task.task_id in scored
            sample = maker.played(task, attempt, counts) if attempt else maker.missing(task, number, counts)
            await recorder.log_sample(spec, sample, write_through=True)
            usage += sum(sample.model_usage.values(), ModelUsage())
            light.append(
                EvalSample(
                    id=sample.id, epoch=sample.epoch, input="", target="", scores=sample.scores, error=sample.error
                )
            )
            advance()
    log = EvalLog(eval=spec, plan=plan, samples=light)
    if scored:
        recompute_metrics(log)
    status: EvalStatus = "cancelled" if played.missing else "success"
    stats = EvalStats(started_at=began.isoformat(), completed_at=ended.isoformat(), model_usage={part.model: usage})
    return await recorder.log_finish(spec, status, stats, log.results, log.reductions, header_only=True)


def _times(journals: Path) -> tuple[datetime, datetime]:
    """When the playing began and ended: by its `timing.json`, and the time of the last record."""
    ended = max(path.stat().st_mtime for path in journals.glob("*.journal"))
    timing = journals.with_name("timing.json")
    seconds = json.loads(timing.read_text())["rollout_seconds"] if timing.exists() else 0.0
    return datetime.fromtimestamp(ended - seconds, UTC), datetime.fromtimestamp(ended, UTC)


def _spec(part: Part, created: datetime, is_binary: bool) -> EvalSpec:
    agent, played = part.config.agent, part.played
    names = ("accuracy" if is_binary else "mean", "stderr")
    metrics: Any = [EvalMetricDefinition(name=f"inspect_ai/{name}") for name in names]
    reducers = ["mean", *([f"pass_at_{played.attempts}"] if played.attempts > 1 else [])]
    ids = [task.task_id for task in played.tasks]
    commit = part.about["provenance"].get("commit")
    temperature = part.config.evaluation.temperature
    return EvalSpec(
        eval_id=part.name,
        run_id=part.about["run"],
        created=created.isoformat(),
        task=part.task,
        task_id=part.name,
        dataset=EvalDataset(name=part.config.tasks.source, samples=len(ids), sample_ids=ids, shuffled=False),
        model=part.model,
        model_generate_config=GenerateConfig(
            temperature=agent.temperature if temperature is None or part.is_round else temperature,
            top_p=agent.top_p,
            max_tokens=agent.turn_tokens,
        ),
        config=EvalConfig(epochs=played.attempts, epochs_reducer=reducers),
        revision=EvalRevision(type="git", origin="", commit=commit) if commit else None,
        packages={"aworld-slurm": version("aworld-slurm")},
        metadata=part.about,
        scorers=[EvalScorer(name=SCORER, metrics=metrics)],
    )
