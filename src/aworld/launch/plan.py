"""What a run has left to do, as stages and the edges between them.

Two plans for the same files. *batch*: one job per stage and round, so that GPUs are held only while they are used.
*resident*: one array of workers and one trainer that live through all rounds. Either can follow the other in one run.
Evaluations on benchmarks are jobs of their own in both. They wait in the queue for their policy, and hold no GPU there.
"""

import sys
from dataclasses import replace

from aworld.config import Config
from aworld.errors import InputError
from aworld.phase import Phase
from aworld.policies.folder import bases, damaged
from aworld.publish import discard, is_complete
from aworld.rollout.outcome import unfinished
from aworld.rollout.units import is_closed, units_left
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.stages import AWAIT, EVALUATE, GATHER, REPORT, ROLLOUT, SUBMIT, TRAIN, Kind, Stage, stage_name
from aworld.training.position import positions
from aworld.trajectories.file import discard_if_damaged

BATCH, RESIDENT = "batch", "resident"


def mode(config: Config) -> str:
    """`pipeline.mode`, or what suits the site.

    Raises:
        InputError: there is no such mode here.
    """
    chosen = config.pipeline.mode or (BATCH if config.site.executor == "slurm" else RESIDENT)
    if chosen not in (BATCH, RESIDENT):
        raise InputError(f"pipeline.mode={chosen}: no such mode; valid: {BATCH}, {RESIDENT}")
    if chosen == BATCH and config.site.executor == "local":
        raise InputError("pipeline.mode=batch needs Slurm's dependencies; on a local site use pipeline.mode=resident")
    return chosen


def plan(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    """The stages to submit now, each after those it depends on; edges to finished ones are left out.

    In batch mode they are those of the next `pipeline.submit_ahead` rounds, in resident mode the evaluations of so many
    policies to come. The last job of a round, or of a wait for a policy, submits later ones where the site lets it; the
    report comes with the last of them.
    """
    stages = _batch(config, run, workloads) if mode(config) == BATCH else _resident(config, run, workloads)
    names = {stage.name for stage in stages}
    return [replace(stage, after=tuple(name for name in stage.after if name in names)) for stage in stages]


def discard_damaged(run: RunDir, workloads: list[Workload]) -> None:
    """Check the files that the next stages read, and remove damaged ones, so that they are made again.

    Of the policies only the newest that is still to be played is read, which may take minutes.
    """
    left = unfinished(run, workloads)
    for workload in left:
        if workload.phase.is_trained_on and not is_complete(run.policy(workload.round)):
            discard_if_damaged(run, workload.round)
    newest = max((w.policies[-1] for w in left if w.policies and units_left(w)), default=-1)
    played = run.newest_policy(newest)
    if any(workload.phase.is_trained_on and workload.round == played for workload in workloads):  # so training makes it
        _discard_if_damaged(run, played)


def _discard_if_damaged(run: RunDir, version: int) -> None:
    """Remove a policy if it cannot be read. Where a base of its deltas is damaged, all that builds on it goes."""
    if not is_complete(run.policy(version)):
        return
    broken, wrong = version, damaged(run, version)
    if not wrong:
        found = ((base, damaged(run, base)) for base in bases(run, version))
        broken, wrong = next(((base, names) for base, names in found if names), (version, []))
    if wrong:
        print(f"warning: {run.policy(broken)} is damaged ({', '.join(wrong)}); removed", file=sys.stderr)
        for each in range(broken, version + 1):
            discard(run.policy(each))


def _resident(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    stages, left = [], unfinished(run, workloads)
    if not all(_is_done(workload) for workload in left if not workload.benchmark):
        stages.append(Stage.of(ROLLOUT, config, run))
    if not is_complete(run.policy(config.pipeline.rounds)):
        stages.append(Stage.of(TRAIN, config, run))
    # A policy that was removed is not made again beside a resident trainer: its evaluations wait for `aworld train`.
    newest = run.newest_policy()  # listed once, however many evaluations are left
    there = {w.round for w in left if w.benchmark and is_complete(run.policy(w.round))}
    of_benchmarks = [w for w in left if w.benchmark and not _is_done(w) and (w.round in there or w.round > newest)]
    awaited = sorted({w.round for w in of_benchmarks} - there)
    if config.site.executor != "slurm":  # the launcher of one machine knows which policies are there
        awaited = []
    ahead = awaited[: config.pipeline.submit_ahead]
    is_whole = ahead == awaited
    stages += _waits(config, run, ahead, follow=not is_whole and config.site.jobs_may_submit)
    for workload in sorted(of_benchmarks, key=lambda workload: workload.round):
        number = workload.round
        if number not in awaited or number in ahead:
            after = (stage_name(AWAIT, number),) if number in ahead else ()
            stages.append(replace(Stage.of(EVALUATE, config, run, number, workload.benchmark), after=after))
    return [*stages, _report(config, run, stages)] if is_whole else stages


def _waits(config: Config, run: RunDir, versions: list[int], follow: bool) -> list[Stage]:
    """Jobs on one core that wait for policies of a resident trainer, whose own job does not end with each policy.

    The evaluations of a policy depend on its job. The jobs depend on each other, so one of them runs at a time.

    Args:
        follow: whether a job after each of them submits the evaluations of a later policy.
    """
    stages: list[Stage] = []
    after: tuple[str, ...] = ()
    for version in versions:
        stages.append(replace(Stage.of(AWAIT, config, run, version), after=after))
        after = (stage_name(AWAIT, version),)
        if follow:
            stages.append(replace(Stage.of(SUBMIT, config, run, version), after=after))
    return stages


def _is_done(workload: Workload) -> bool:
    return is_closed(workload) and not units_left(workload)


def _batch(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    stages: list[Stage] = []
    rounds = window(config, run)
    last, is_whole = rounds[-1], rounds[-1] == config.pipeline.rounds
    ahead = [workload for workload in workloads if workload.round <= last]
    left = unfinished(run, ahead)
    trainings, read = _trainings(run, left, last)
    names = {workload.name for workload in left}

    def add(kind: Kind, number: int, *after: str, benchmark: str = "") -> None:
        stages.append(replace(Stage.of(kind, config, run, number, benchmark), after=after))

    gathers: list[str] = []  # since the training before
    for workload in ahead:
        number = workload.round
        is_trained = workload.phase.is_trained_on and number in trainings  # perhaps once more, for an older policy
        if workload.name not in names and not (workload.phase.is_trained_on and number in read):
            continue
        # the policy it plays, by the stage that makes it
        policy = [stage_name(TRAIN, version) for version in workload.policies[:1]]
        if workload.phase is Phase.EVALUATION:
            if not _is_done(workload):
                add(EVALUATE, number, *policy, benchmark=workload.benchmark)
            continue
        if units_left(workload):
            add(ROLLOUT, number, *policy)
        if not is_closed(workload):
            add(GATHER, number, stage_name(ROLLOUT, number))
        gathers.append(stage_name(GATHER, number))
        if is_trained:
            add(TRAIN, number, *gathers, stage_name(TRAIN, number - 1))
            gathers = []
            if number in rounds and not is_whole and config.site.jobs_may_submit:
                add(SUBMIT, number, stage_name(TRAIN, number))
    return [*stages, _report(config, run, stages)] if is_whole else stages


def window(config: Config, run: RunDir) -> range:
    """The next `pipeline.submit_ahead` rounds that are not trained yet; where there is none, the run's last round."""
    first, rounds = max(run.newest_policy(), run.trained_round()) + 1, config.pipeline.rounds
    return range(min(first, rounds), min(first + config.pipeline.submit_ahead, rounds + 1))


def _trainings(run: RunDir, left: list[Workload], last: int) -> tuple[set[int], set[int]]:
    """The rounds to train: for the policy of round `last`, and for each missing policy that a workload left needs.

    Training goes on from the newest checkpoint before them. Other policies may have been removed to make room. Also
    returns the rounds whose trajectories it reads. The policy of such a round may be there, and its checkpoint gone.
    """
    needed = {last}
    for workload in left:
        is_there = any(is_complete(run.policy(version)) for version in workload.policies)
        if workload.policies and not is_there and units_left(workload):
            needed.add(workload.policies[0])
    begins = [0, *(position.round + 1 for position in positions(run.checkpoints) if position.step is None)]
    found, read = set(), set()
    for version in needed:
        if not is_complete(run.policy(version)):
            begin = max(number for number in begins if number <= version + 1)
            found |= {number for number in range(begin, version) if not is_complete(run.policy(number))} | {version}
            read |= {*range(begin, version), version}
    return found, read


def _report(config: Config, run: RunDir, stages: list[Stage]) -> Stage:
    return replace(Stage.of(REPORT, config, run), after=tuple(stage.name for stage in stages))
