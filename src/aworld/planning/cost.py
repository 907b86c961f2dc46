"""What a run takes in all: seconds and GPU-hours of each phase, jobs in the queue, and bytes on disk."""

from collections.abc import Sequence
from dataclasses import dataclass

from aworld.config import Config, Resources
from aworld.planning.disk import JOURNAL_BYTES, TRAJECTORY_BYTES, Kept, disk
from aworld.planning.hardware import Hardware
from aworld.planning.measured import Measured
from aworld.planning.simulate import NEVER, Outcome, Preemption, episode_lengths, makespan, run_seconds
from aworld.planning.time import Episodes, Phase, rollout, train

MEAN_SHARE = 0.5  # of max_model_len that an episode takes on average, where nobody knows better


@dataclass(frozen=True)
class Line:
    """A phase of the run.

    Attributes:
        seconds: of a round, or of one evaluation; None: not known.
        tokens: that it plays or trains in that time.
        gpus: that it holds.
        times: how often the run does it.
        jobs: in Slurm's queue, in all.
    """

    name: str
    seconds: float | None
    tokens: int
    gpus: int
    times: int
    jobs: int

    @property
    def gpu_hours(self) -> float:
        """Of one time."""
        return self.gpus * (self.seconds or 0.0) / 3600


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        seconds: from the first job to the last policy, without waiting in the queue; None: not known.
        gpu_hours: in all; None: not known.
        outcome: the simulated rollout of one round; None: there are no seconds of an episode to simulate with.
    """

    lines: list[Line]
    kept: list[Kept]
    episodes: Episodes
    seconds: float | None
    gpu_hours: float | None
    outcome: Outcome | None

    @property
    def jobs(self) -> int:
        return sum(line.jobs for line in self.lines)


def assumed_episodes(config: Config, mean: float | None = None, tool_seconds: float = 0.0) -> Episodes:
    """A round's episodes, drawn around `mean` tokens; None: half of what a context can hold."""
    longest = config.model.shard.max_model_len
    count = config.rollout.tasks_per_round * config.rollout.group_size
    lengths = episode_lengths(mean or MEAN_SHARE * longest, longest, count, config.seed)
    return Episodes(lengths, tool_seconds=tool_seconds)


def cost(
    config: Config,
    is_batch: bool,
    episodes: Episodes,
    hardware: Hardware | None,
    measured: Measured | None = None,
    preemption: Preemption = NEVER,
) -> Cost:
    """The cost of the whole run.

    Args:
        is_batch: a job for each stage and round; else jobs that live through all rounds.
        measured: figures of a run, which go before those of the hardware.
    """
    site, rounds = config.site, config.pipeline.rounds
    played, gathered, trained, outcome = _phases(config, episodes, hardware, measured, preemption)
    held_out = config.tasks.held_out if config.tasks.held_out >= 1 else config.tasks.held_out * config.tasks.train
    evaluated = Episodes(_repeated(episodes.lengths, int(held_out) * config.evaluation.attempts))
    evaluations = evaluations_of(config)
    share = evaluated.tokens / max(episodes.tokens, 1)
    workers = site.rollout.workers / site.evaluate.workers
    played_again = Phase(played.work * share * workers, played.files, played.start) if played else None
    starts = config.training.cold_start.tasks > 0

    def line(name: str, phase: Phase | None, resources: Resources, tokens: int, times: int, jobs: int) -> Line:
        seconds = phase.seconds(is_batch) if phase else None
        gpus = resources.elements * resources.nodes * resources.gpus_per_node
        return Line(name, seconds, tokens, gpus, times, jobs)

    numbered = rounds + starts if is_batch else 1
    with_evaluations = evaluations * site.evaluate.elements if is_batch else 0
    lines = [
        line("rollout", played, site.rollout, episodes.tokens, rounds, numbered * site.rollout.elements),
        line("gather", gathered, site.gather, 0, rounds, numbered if is_batch else 0),
        line("train", trained, site.train, episodes.tokens, rounds, numbered),
        line("evaluate", played_again, site.evaluate, evaluated.tokens, evaluations, with_evaluations),
        Line("report", None, 0, 0, 1, 1),
    ]
    seconds = _whole(config, lines)
    return Cost(
        lines,
        disk(config, episodes.tokens, evaluated.tokens, evaluations),
        episodes,
        seconds,
        None if seconds is None else _gpu_hours(lines, seconds, is_batch),
        outcome,
    )


def evaluations_of(config: Config) -> int:
    """How many evaluations hang off the run's policies. Benchmarks are counted like the held-out tasks."""
    return len(config.pipeline.evaluated) * len(config.pipeline.evaluation_overrides)


def _phases(
    config: Config,
    episodes: Episodes,
    hardware: Hardware | None,
    measured: Measured | None,
    preemption: Preemption,
) -> tuple[Phase | None, Phase | None, Phase | None, Outcome | None]:
    """Rollout, gather and training, and the simulated rollout."""
    played = gathered = trained = outcome = None
    if hardware:
        if config.site.rollout.gpus_per_node:
            played, outcome = rollout(config, hardware, episodes, preemption)
        if config.site.train.gpus_per_node:
            trained = train(config, hardware, episodes)
        size = (JOURNAL_BYTES + TRAJECTORY_BYTES) * episodes.tokens
        gathered = Phase(0.0, size / (hardware.file_system_gb_per_second * 1e9))
    if measured:
        played, gathered, trained = measured.rollout, measured.gather, measured.train or trained
        workers, slots = config.site.rollout.workers, config.environment.slots
        outcome = makespan(measured.seconds, workers, slots, preemption, seed=config.seed)
    return played, gathered, trained, outcome


def _whole(config: Config, lines: list[Line]) -> float | None:
    """Seconds of the run: all rounds, and the evaluation of the last policy. The cold start is not counted."""
    played, gathered, trained, evaluated = (line.seconds for line in lines[:4])
    if played is None or gathered is None or trained is None:
        return None
    rounds = run_seconds(played + gathered, trained, config.pipeline.rounds, config.pipeline.max_lag)
    return rounds + (evaluated or 0.0)


def _gpu_hours(lines: list[Line], seconds: float, is_batch: bool) -> float:
    """In batch mode GPUs are held while they are used, else all the time."""
    if is_batch:
        return sum(line.gpu_hours * line.times for line in lines)
    return sum(line.gpus for line in lines if line.name in ("rollout", "train")) * seconds / 3600


def _repeated(lengths: Sequence[int], count: int) -> list[int]:
    """`count` lengths, the given ones again and again."""
    return [lengths[at % len(lengths)] for at in range(count)] if lengths else []
