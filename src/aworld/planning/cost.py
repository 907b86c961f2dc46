"""What a run takes in all: seconds and GPU-hours of each phase, jobs in the queue, and bytes on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aworld.config import Config, Resources
from aworld.planning.disk import JOURNAL_BYTES, TRAJECTORY_BYTES, Disk, Evaluated, disk, played_tasks
from aworld.planning.hardware import Hardware
from aworld.planning.measured import Measured
from aworld.planning.simulate import NEVER, Outcome, Preemption, episode_lengths, makespan, run_seconds
from aworld.planning.time import Episodes, Phase, rollout, train
from aworld.rundir import HELD_OUT

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
        idle_slots: that no episode of a round is left for, of `slots`; 0 where they begin the next round.
    """

    lines: list[Line]
    disk: Disk
    episodes: Episodes
    seconds: float | None
    gpu_hours: float | None
    outcome: Outcome | None
    slots: int
    idle_slots: int

    @property
    def jobs(self) -> int:
        return sum(line.jobs for line in self.lines)


def assumed_episodes(config: Config, mean: float | None = None, tool_seconds: float = 0.0) -> Episodes:
    """A round's episodes, drawn around `mean` tokens; None: half of what a context can hold.

    With `rollout.oversample` they are the most that a round may play.
    """
    longest = config.model.shard.max_model_len
    count = played_tasks(config) * config.rollout.group_size
    lengths = episode_lengths(mean or MEAN_SHARE * longest, longest, count, config.seed)
    return Episodes(lengths, tool_seconds=tool_seconds)


def cost(
    config: Config,
    is_batch: bool,
    episodes: Episodes,
    hardware: Hardware | None,
    evaluations: Sequence[Evaluated],
    measured: Measured | None = None,
    preemption: Preemption = NEVER,
    shown_by: Config | None = None,
) -> Cost:
    """The cost of the whole run.

    Args:
        is_batch: a job for each stage and round; else jobs that live through all rounds.
        episodes: that a round plays.
        evaluations: on the run's own tasks, and on each benchmark.
        measured: figures of a run, which go before those of the hardware.
        shown_by: with the model that plays the cold start on the shards; None: no shard does, or it is not known.
    """
    site, rounds, cold = config.site, config.pipeline.rounds, config.training.cold_start
    # Dynamic sampling plays further tasks in the place of those with one reward; training leaves these out.
    trained_on = replace(
        episodes, lengths=episodes.lengths[: config.rollout.tasks_per_round * config.rollout.group_size]
    )
    played, gathered, trained, outcome = _phases(config, episodes, trained_on, hardware, measured, preemption)

    def line(name: str, phase: Phase | None, resources: Resources, tokens: int, times: int, jobs: int) -> Line:
        seconds = phase.seconds(is_batch) if phase else None
        gpus = resources.elements * resources.nodes * resources.gpus_per_node
        return Line(name, seconds, tokens, gpus, times, jobs)

    numbered = rounds if is_batch else 1
    lines = [
        line("rollout", played, site.rollout, episodes.tokens, rounds, numbered * site.rollout.elements),
        line("gather", gathered, site.gather, 0, rounds, numbered if is_batch else 0),
        line("train", trained, site.train, trained_on.tokens, rounds, numbered),
    ]
    if cold.is_on:
        shown = replace(episodes, lengths=_repeated(episodes.lengths, cold.shown * cold.attempts))
        played, learned = _cold_start(config, shown, hardware, preemption, shown_by)
        holds = site.rollout if cold.needs_shard or not is_batch else replace(site.rollout, gpus_per_node=0)
        lines += [
            line("cold start, played", played, holds, shown.tokens, 1, is_batch * site.rollout.elements),
            line("cold start, gathered", None, site.gather, 0, 1, int(is_batch)),
            line("cold start, trained", learned, site.train, shown.tokens * cold.epochs, 1, int(is_batch)),
        ]
    sizes = [Episodes(_repeated(episodes.lengths, each.tasks * each.attempts)).tokens for each in evaluations]
    for evaluation, tokens in zip(evaluations, sizes, strict=True):
        share = tokens / max(episodes.tokens, 1) * site.rollout.workers / site.evaluate.workers
        again = Phase(played.work * share, played.files, played.start) if played else None
        jobs = evaluation.times * site.evaluate.elements if is_batch or evaluation.name != HELD_OUT else 0
        lines.append(line(f"evaluate {evaluation.name}", again, site.evaluate, tokens, evaluation.times, jobs))
    lines += _one_core(config, is_batch, numbered + cold.is_on if is_batch else 1, evaluations)
    seconds = _whole(config, lines)
    slots = site.rollout.workers * min(config.slots, config.model.shard.max_num_seqs)
    goes_on = not is_batch and config.pipeline.max_lag > 0
    return Cost(
        lines,
        disk(config, episodes.tokens, list(zip(evaluations, sizes, strict=True))),
        episodes,
        seconds,
        None if seconds is None else _gpu_hours(lines, seconds, is_batch),
        outcome,
        slots,
        0 if goes_on else max(0, slots - len(episodes.lengths)),
    )


def _one_core(config: Config, is_batch: bool, numbered: int, evaluations: Sequence[Evaluated]) -> list[Line]:
    """The jobs that hold no GPU beside gathering: waits for policies, submissions of later jobs, and the report.

    Args:
        numbered: jobs of training in batch mode.
    """
    on_benchmarks = [each.times for each in evaluations if each.name != HELD_OUT]
    waits = 0 if is_batch or config.site.executor != "slurm" else max(on_benchmarks, default=0)
    chain = numbered if is_batch else waits
    follow = config.site.jobs_may_submit and chain > config.pipeline.submit_ahead
    jobs = {"await": waits, "submit": chain - 1 if follow else 0, "report": 1}
    return [Line(name, None, 0, 0, count, count) for name, count in jobs.items() if count]


def _phases(
    config: Config,
    episodes: Episodes,
    trained_on: Episodes,
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
            trained = train(config, hardware, trained_on)
        size = (JOURNAL_BYTES + TRAJECTORY_BYTES) * episodes.tokens
        gathered = Phase(0.0, size / (hardware.file_system_gb_per_second * 1e9))
    if measured:
        played, gathered, trained = measured.rollout, measured.gather, measured.train or trained
        workers, slots = config.site.rollout.workers, config.slots
        outcome = makespan(measured.seconds, workers, slots, preemption, seed=config.seed)
    return played, gathered, trained, outcome


def _cold_start(
    config: Config, episodes: Episodes, hardware: Hardware | None, preemption: Preemption, shown_by: Config | None
) -> tuple[Phase | None, Phase | None]:
    """The episodes of the cold start, and the training on them. All are counted as right, which is the most."""
    played = learned = None
    if hardware and episodes.lengths:
        if shown_by and config.site.rollout.gpus_per_node:
            played, _ = rollout(shown_by, hardware, episodes, preemption)
        if config.site.train.gpus_per_node:
            cold = config.training.cold_start
            training = replace(config.training, epochs=cold.epochs, batch_size=cold.batch_size)
            learned = train(replace(config, training=training), hardware, episodes)
    return played, learned


def _whole(config: Config, lines: list[Line]) -> float | None:
    """Seconds of the run: the cold start as far as they are known, all rounds, the last policy's longest evaluation."""
    seconds = {line.name: line.seconds for line in lines}
    played, gathered, trained = (seconds[name] for name in ("rollout", "gather", "train"))
    if played is None or gathered is None or trained is None:
        return None
    rounds = run_seconds(played + gathered, trained, config.pipeline.rounds, config.pipeline.max_lag)
    before = sum(each or 0.0 for name, each in seconds.items() if name.startswith("cold start"))
    return (
        before
        + rounds
        + max((each or 0.0 for name, each in seconds.items() if name.startswith("evaluate")), default=0.0)
    )


def _gpu_hours(lines: list[Line], seconds: float, is_batch: bool) -> float:
    """In batch mode GPUs are held while they are used. Else workers and trainer hold theirs all the time, and jobs of
    their own evaluate on benchmarks."""
    all_the_time = [] if is_batch else [line for line in lines if line.name in ("rollout", "train")]
    used = sum(line.gpu_hours * line.times for line in lines if line.jobs and line not in all_the_time)
    return used + sum(line.gpus for line in all_the_time) * seconds / 3600


def _repeated(lengths: Sequence[int], count: int) -> list[int]:
    """`count` lengths, the given ones again and again."""
    return [lengths[at % len(lengths)] for at in range(count)] if lengths else []
