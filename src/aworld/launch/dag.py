"""A whole run on Slurm: the stages of the next rounds are submitted at once, held together by dependencies.

Nothing has to stay alive afterwards: the last job of a round submits a later one. Launching a run again, at any
moment, submits what is missing and leaves the jobs that wait or run as they are.
"""

from dataclasses import dataclass

from rich.console import Console

from aworld.config import Config
from aworld.errors import InputError
from aworld.launch import evaluations, jobs
from aworld.launch.plan import BATCH, discard_damaged, mode, plan, window
from aworld.launch.prepare import prepare
from aworld.rollout.workload import Workload, schedule
from aworld.rundir import RunDir
from aworld.slurm import ask
from aworld.stages import REPORT, Stage
from aworld.watch.queue import Queued, elements_alive, settled, submitted


@dataclass(frozen=True)
class Launched:
    """The ids of a stage's jobs: those submitted now, and those that were in the queue."""

    stage: Stage
    new: list[str]
    kept: list[str]


def launch(config: Config, console: Console) -> RunDir:
    """Prepare the run and submit what it has left to do.

    Raises:
        InputError: the configuration cannot be run, or Slurm refuses a job.
        InfrastructureError: Slurm does not answer.
    """
    console.print(f"[bold]{config.name}[/]: preparing tasks and the first policy …")
    run, source = prepare(config)
    workloads = [*schedule(config, run, source), *evaluations.workloads(config, run)]
    discard_damaged(run, workloads)
    go_on(config, run, workloads, console)
    console.print(f"submitted; nothing has to stay open. Follow the run with: aworld watch {run.root}", highlight=False)
    return run


def go_on(
    config: Config, run: RunDir, workloads: list[Workload], console: Console, *, ended: int | None = None
) -> None:
    """Submit the jobs of a prepared run that are missing now, and print them.

    Args:
        ended: the round whose end adds later ones, in a job; None: a person asks. Only a person submits anew what has
            failed.

    Raises:
        InputError: Slurm refuses a job.
        InfrastructureError: Slurm does not answer.
    """
    with jobs.submitting(run, config.site.poll_seconds):
        queued = settled(run)  # before the plan, which leaves out what has ended meanwhile
        stages = plan(config, run, workloads)
        launched = _submit(config, run, stages, queued, None if ended is None else _since(config, run, ended))
    for each in launched:
        ids = ", ".join([*each.new, *(f"{job} (there already)" for job in each.kept)])
        elements = each.stage.resources.elements
        array = f" × {elements}" if each.stage.kind.has_workers and elements > 1 else ""
        after = f" after {', '.join(each.stage.after)}" if each.stage.after and each.stage.kind != REPORT else ""
        console.print(f"{each.stage.name}{array}: {ids}{after}", highlight=False, soft_wrap=True)
    if said := ahead(config, run, stages):
        console.print(said, highlight=False, soft_wrap=True)


def _since(config: Config, run: RunDir, ended: int) -> int:
    """The first round that a job at the end of a round submits for."""
    # A resident trainer may be many policies ahead: their evaluations still have to be submitted.
    return window(config, run)[0] if mode(config) == BATCH else ended + 1


def ahead(config: Config, run: RunDir, stages: list[Stage]) -> str:
    """Which rounds of a plan are in the queue, and who submits the later ones; empty where there is none."""
    if any(stage.kind == REPORT for stage in stages):  # it comes with the last of them
        return ""
    names = [stage.name for stage in stages]
    return submitted(run, names, config.pipeline.rounds, follow=config.site.jobs_may_submit)


def submit(config: Config, run: RunDir, stages: list[Stage]) -> list[Launched]:
    """Submit the stages in order, each after the jobs of those before it.

    Elements that wait or run are left alone. Where an earlier stage is submitted anew, the elements that depend on its
    old job are cancelled and submitted anew. Jobs that Slurm holds are released.
    """
    with jobs.submitting(run, config.site.poll_seconds):
        return _submit(config, run, stages, settled(run))


def _submit(
    config: Config, run: RunDir, stages: list[Stage], queued: list[Queued], since: int | None = None
) -> list[Launched]:
    """
    Args:
        since: only the report and stages of this round or later ones are submitted, and no elements of arrays that
            wait or run; None: all.
    """
    jobs.release(queued)
    alive = elements_alive(queued)
    ids: dict[str, list[str]] = {}
    launched: dict[str, Launched] = {}
    for stage in stages:
        there = alive.get(stage.name, {})
        if there and any(launched[name].new for name in stage.after):
            ask("scancel", *sorted(set(there.values())))
            there = {}
        missing = [element for element in range(stage.resources.elements) if element not in there]
        if since is not None and (there or (stage.kind != REPORT and _is_before(stage, since))):
            missing = []
        after = [job for name in stage.after for job in ids[name]]
        try:
            new = [s.job for s in jobs.submit(config.site, stage, after, missing)] if missing else []
        except InputError as reason:
            if any(each.new for each in launched.values()):
                raise InputError(
                    f"{reason}; what came before it stays queued, and aworld resume {run.root} adds the rest"
                ) from None
            raise
        launched[stage.name] = Launched(stage, new, sorted(set(there.values())))
        ids[stage.name] = [*launched[stage.name].kept, *new]
    return list(launched.values())


def _is_before(stage: Stage, round_: int) -> bool:
    """Whether a stage is of an earlier round, or lives through all of them."""
    return stage.number is None or stage.number < round_
