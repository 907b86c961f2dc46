"""Start a run, or go on with one, as its site wants it: submitted to Slurm, or on this machine."""

import tempfile
from pathlib import Path

from rich.console import Console

from aworld.config import Config, to_yaml
from aworld.errors import InputError
from aworld.launch import dag, local
from aworld.launch.executor import command
from aworld.launch.plan import plan
from aworld.launch.prepare import check
from aworld.launch.summary import summary
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source


def start(config: Config, console: Console) -> None:
    """On Slurm returns once everything is submitted; on this machine once everything is done.

    Raises:
        InputError: there is nothing to train.
        AWorldError: as `dag.launch` and `local.pipeline` do.
    """
    if not (config.pipeline.rounds or config.training.cold_start.tasks):
        raise InputError("pipeline.rounds=0: nothing is trained; evaluate the policy with jobs/evaluate.py")
    if config.site.executor == "slurm":
        dag.launch(config, console)
    else:
        summary(local.pipeline(config, console), console)


def dry_run(config: Config, console: Console) -> None:
    """Say what would be launched, and launch nothing; for Slurm, write the batch scripts and let it check them."""
    check(config)
    run = RunDir.of(config)
    with tempfile.TemporaryDirectory() as tasks:
        workloads = schedule(config, run, make_source(config.tasks, Path(tasks) / "tasks"))
    if config.site.executor == "local":
        console.print(to_yaml(config), markup=False, highlight=False)
        console.print(f"# would be launched on site '{config.site.name}':")
        for stage in local.stages(config, run, workloads):
            words = " ".join(command(stage.words))
            console.print(f"# {stage.name}: {words}", markup=False, highlight=False, soft_wrap=True)
        return
    stages = plan(config, run, workloads)
    folder = run.root / "dry-run"
    written = dag.dry_run(config, run, stages, folder)
    console.print(f"wrote {folder / 'run.yaml'} and {len(written)} batch scripts beside it", highlight=False)
    for said in dag.check(config, run, stages, folder):
        console.print(said, highlight=False, soft_wrap=True)
