"""A whole run on Slurm: every stage that is left is submitted at once, held together by dependencies.

Nothing has to stay alive afterwards. Launching a run again, at any moment, submits what is missing and leaves the jobs
that wait or run as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aworld.config import Config, to_yaml
from aworld.errors import InputError
from aworld.launch import slurm
from aworld.launch.plan import Stage, discard_damaged, plan
from aworld.launch.prepare import prepare
from aworld.launch.script import scripts, shape
from aworld.publish import publish_text
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir


@dataclass(frozen=True)
class Launched:
    """What became of a stage: the ids of its jobs, those submitted now and those that were there."""

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
    workloads = schedule(config, run, source)
    discard_damaged(run, workloads)
    launched = submit(config, run, plan(config, run, workloads))
    for each in launched:
        jobs = ", ".join([*each.new, *(f"{job} (there already)" for job in each.kept)])
        elements = each.stage.resources.elements
        array = f" × {elements}" if each.stage.has_workers and elements > 1 else ""
        after = f" after {', '.join(each.stage.after)}" if each.stage.after and each.stage.name != "report" else ""
        console.print(f"{each.stage.name}{array}: {jobs}{after}", highlight=False, soft_wrap=True)
    console.print(f"nothing has to stay open; aworld watch {run.root} shows how it goes", highlight=False)
    return run


def submit(config: Config, run: RunDir, stages: list[Stage]) -> list[Launched]:
    """Submit the stages in order, each after the jobs of those before it.

    Elements that wait or run are left alone, unless a stage before theirs is submitted anew: then theirs waits for a
    job that will not succeed, and is replaced. What Slurm holds is released.
    """
    with slurm.submitting(run):
        return _submit(config, run, stages)


def _submit(config: Config, run: RunDir, stages: list[Stage]) -> list[Launched]:
    queued = slurm.settled(run)
    slurm.release(queued)
    alive = slurm.elements(queued)
    ids: dict[str, list[str]] = {}
    launched: dict[str, Launched] = {}
    for stage in stages:
        there = alive.get(stage.name, {})
        if there and any(launched[name].new for name in stage.after):
            slurm.ask("scancel", *sorted(set(there.values())))
            there = {}
        missing = [element for element in range(stage.resources.elements) if element not in there]
        after = [job for name in stage.after for job in ids[name]]
        try:
            new = [s.job for s in slurm.submit(config.site, run, stage, after, missing)] if missing else []
        except InputError as reason:
            if any(each.new for each in launched.values()):
                raise InputError(
                    f"{reason}; what came before it stays queued, and aworld resume {run.root} adds the rest"
                ) from None
            raise
        launched[stage.name] = Launched(stage, new, sorted(set(there.values())))
        ids[stage.name] = [*launched[stage.name].kept, *new]
    return list(launched.values())


def dry_run(config: Config, run: RunDir, stages: list[Stage], folder: Path) -> list[Path]:
    """Write the resolved configuration and every batch script; the ids in their dependencies are the stages' names.

    A stage in several arrays is STAGE.1.sbatch and so on.
    """
    publish_text(folder / "run.yaml", to_yaml(config))
    for old in folder.glob("*.sbatch"):
        old.unlink()
    paths = []
    for stage in stages:
        texts = scripts(config.site, run, stage, list(stage.after))
        for number, text in enumerate(texts, 1):
            paths.append(folder / f"{stage.name}{f'.{number}' if len(texts) > 1 else ''}.sbatch")
            publish_text(paths[-1], text)
    return paths


def check(config: Config, run: RunDir, stages: list[Stage], folder: Path) -> Iterator[str]:
    """What `sbatch --test-only` says of the scripts, once for each kind of stage and all that it asks for.

    Raises:
        InputError: Slurm would refuse one.
    """
    seen = set()
    for stage in stages:
        for text in scripts(config.site, run, stage, []):  # there are no jobs yet that it could depend on
            if (key := (stage.words[0], shape(text))) not in seen:
                seen.add(key)
                yield f"{stage.words[0]}: {slurm.checked(config.site, stage, text, folder)}"
