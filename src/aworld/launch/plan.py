"""What a run has left to do, as stages and the edges between them.

Two plans for the same files. *batch*: one job per stage and round, so that GPUs are held only while they are used.
*resident*: one array of workers and one trainer that live through all rounds. Either can follow the other in one run.
"""

import shutil
import sys
from dataclasses import dataclass, replace

from aworld.config import Config, Resources
from aworld.errors import InputError
from aworld.phase import Phase
from aworld.publish import damaged, is_complete
from aworld.rollout.units import is_closed, units_left
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.training.position import positions
from aworld.trajectories.file import discard_if_damaged

BATCH, RESIDENT = "batch", "resident"


@dataclass(frozen=True)
class Stage:
    """A command that does one stage's work.

    Attributes:
        name: unique in the run, such as rollout-0003.
        words: of `aworld`; every task of the job runs them. A stage with workers also gets `--worker FIRST`.
        resources: what it asks for; its array has `resources.elements` elements.
        after: names of the stages that come before it.
        come_what_may: it starts once those have ended, also where they failed: a lost worker's share may have been
            done by others.
        max_restarts: `pipeline.max_restarts`.
    """

    name: str
    words: tuple[str, ...]
    resources: Resources
    after: tuple[str, ...] = ()
    come_what_may: bool = False
    max_restarts: int = 2

    @property
    def has_workers(self) -> bool:
        return self.words[0] in ("rollout", "evaluate")


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
    """The stages that are not finished, each after those it depends on; edges to finished ones are left out."""
    stages = _batch(config, run, workloads) if mode(config) == BATCH else _resident(config, run, workloads)
    names = {stage.name for stage in stages}
    return [
        replace(
            stage,
            after=tuple(name for name in stage.after if name in names),
            max_restarts=config.pipeline.max_restarts,
        )
        for stage in stages
    ]


def discard_damaged(run: RunDir, workloads: list[Workload]) -> None:
    """Read what the next stages read; trajectories that are damaged are removed, and so gathered again.

    So is a policy, and exported again: only the newest that is still to be played is read, which may take minutes.
    """
    for workload in workloads:
        if workload.phase.is_trained_on and not is_complete(run.policy(workload.round)):
            discard_if_damaged(run, workload.round)
    there = run.policies()
    newest = [w.policies[-1] for w in workloads if w.policies and units_left(w)]
    played = max((version for version in there if version <= max(newest, default=-1)), default=-1)
    if any(workload.phase.is_trained_on and workload.round == played for workload in workloads):  # so training makes it
        _discard_if_damaged(run, played)


def _discard_if_damaged(run: RunDir, version: int) -> None:
    folder = run.policy(version)
    if is_complete(folder) and (wrong := damaged(folder)):
        print(f"warning: {folder} is damaged ({', '.join(wrong)}); removed", file=sys.stderr)
        shutil.rmtree(folder)


def _resident(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    root, site = str(run.root), config.site
    stages = []
    if not all(is_closed(workload) and not units_left(workload) for workload in workloads):
        stages.append(Stage("rollout", ("rollout", root), site.rollout))
    if not is_complete(run.policy(config.pipeline.rounds)):
        stages.append(Stage("train", ("train", root), site.train))
    return [*stages, _report(config, run, stages)]


def _batch(config: Config, run: RunDir, workloads: list[Workload]) -> list[Stage]:
    root, site = str(run.root), config.site
    stages: list[Stage] = []
    trainings = _trainings(config, run, workloads)
    for workload in workloads:
        number = workload.round
        words = ("--round", str(number))
        # the policy it plays, by the stage that makes it
        policy = [f"train-{version:04d}" for version in workload.policies[:1]]
        if workload.phase is Phase.EVALUATION:
            if not is_closed(workload) or units_left(workload):
                evaluate = ("evaluate", root, "--policy", str(number))
                stages.append(Stage(f"evaluate-{number:04d}", evaluate, site.evaluate, tuple(policy)))
            continue
        if units_left(workload):
            stages.append(Stage(f"rollout-{number:04d}", ("rollout", root, *words), site.rollout, tuple(policy)))
        if not is_closed(workload):
            rollout = f"rollout-{number:04d}"
            stages.append(Stage(f"gather-{number:04d}", ("gather", root, *words), site.gather, (rollout,), True))
        if number in trainings:
            after = (f"gather-{number:04d}", f"train-{number - 1:04d}")
            stages.append(Stage(f"train-{number:04d}", ("train", root, *words), site.train, after))
    return [*stages, _report(config, run, stages)]


def _trainings(config: Config, run: RunDir, workloads: list[Workload]) -> set[int]:
    """The rounds to train: of the last policy, and of those that must be there for what is left to play.

    Each goes on from the newest checkpoint before it. A policy that nothing needs any more may have been removed.
    """
    needed = {config.pipeline.rounds}
    for workload in workloads:
        is_there = any(is_complete(run.policy(version)) for version in workload.policies)
        if workload.policies and not is_there and units_left(workload):
            needed.add(workload.policies[0])
    begins = [0, *(position.round + 1 for position in positions(run.checkpoints) if position.step is None)]
    found = set()
    for version in needed:
        if not is_complete(run.policy(version)):
            begin = max(number for number in begins if number <= version + 1)
            found |= {number for number in range(begin, version) if not is_complete(run.policy(number))} | {version}
    return found


def _report(config: Config, run: RunDir, stages: list[Stage]) -> Stage:
    """Runs where gathering does, which needs no GPU either."""
    like = config.site.gather
    resources = Resources(partition=like.partition, qos=like.qos, constraint=like.constraint)
    if not like.mem_gb:
        resources.mem_gb = 0
    return Stage("report", ("report", str(run.root)), resources, tuple(stage.name for stage in stages), True)
