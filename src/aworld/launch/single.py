"""Launch one stage of an existing run from the login node: what `jobs/rollout.py` and its like do."""

import argparse
import time
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InfrastructureError, InputError, TaskError, guarded
from aworld.evaluation import benchmark
from aworld.launch import dag, executor
from aworld.launch.plan import Stage
from aworld.launch.slurm import script
from aworld.rundir import RunDir

KINDS = {kind.exit_code: kind for kind in (InputError, TaskError)}


def stage_of(kind: str, config: Config, run: RunDir, number: int, tasks: str = "") -> Stage:
    """The stage of round (or, to evaluate, of policy) `number`; `tasks`: on this benchmark, not the run's own tasks."""
    option = "--policy" if kind == "evaluate" else "--round"
    words = (kind, str(run.root), option, str(number), *(("--tasks", tasks) if tasks else ()))
    return Stage(f"{kind}-{tasks + '-' if tasks else ''}{number:04d}", words, getattr(config.site, kind))


def launch_stage(kind: str, text: str | None) -> int:
    """Submit the stage; on a local site wait for it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="such as site.train.minutes=30")
    parser.add_argument("--policy" if kind == "evaluate" else "--round", dest="number", type=int, required=True)
    parser.add_argument("--dry-run", action="store_true", help="print what would be launched, and launch nothing")
    arguments = parser.parse_intermixed_args()

    def launch() -> None:
        run = RunDir(arguments.run)
        config = configuration.changed(configuration.read(run.config), arguments.words)
        tasks = ""
        if kind == "evaluate":
            tasks = next((word.removeprefix("tasks=") for word in arguments.words if word.startswith("tasks=")), "")
        if tasks and not arguments.dry_run:
            benchmark.begin(config, run, tasks)
        stage = stage_of(kind, config, run, arguments.number, tasks)
        console = Console()
        if config.site.executor == "slurm":
            if arguments.dry_run:
                print(script(config.site, run, stage, []))
                return
            (launched,) = dag.submit(config, run, [stage])
            console.print(f"{stage.name}: {', '.join(launched.new or launched.kept)}", highlight=False)
        elif arguments.dry_run:
            for process in executor.processes(stage):
                print(process.name, *executor.command(process.words))
        else:
            _wait(run, stage, console)

    return guarded(launch)


def _wait(run: RunDir, stage: Stage, console: Console) -> None:
    jobs = [executor.submit(run, process) for process in executor.processes(stage)]
    console.print(f"started {', '.join(f'{job.stage.name} ({job.submitted.job_id})' for job in jobs)}")
    while any(job.exit_code() is None for job in jobs):
        time.sleep(0.5)
    for job in jobs:
        if code := job.exit_code():
            error = KINDS.get(code, InfrastructureError)
            raise error(f"{job.stage.name} ended with exit code {code}: {job.complaint()}")
