"""Launch one stage of an existing run from the login node: what `jobs/rollout.py` and its like do."""

import argparse
import time
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InfrastructureError, InputError, TaskError, guarded
from aworld.launch.jobs import Stage, command, rollout_stage, submit, train_stage
from aworld.rundir import RunDir

KINDS = {kind.exit_code: kind for kind in (InputError, TaskError)}


def stages(kind: str, config: Config, run: RunDir, number: int) -> list[Stage]:
    """The jobs of one stage of round (or, to evaluate, of policy) `number`."""
    workers = range(config.site.rollout.workers)
    match kind:
        case "rollout":
            return [rollout_stage(run, worker, "--round", str(number)) for worker in workers]
        case "evaluate":
            words = ("evaluate", str(run.root), "--policy", str(number), "--worker")
            return [Stage(f"rollout-{worker}", (*words, str(worker))) for worker in workers]
        case "gather":
            return [Stage("gather", ("gather", str(run.root), "--round", str(number)))]
        case _:
            return [train_stage(run, "--round", str(number))]


def launch_stage(kind: str, text: str | None) -> int:
    """Submit the stage's jobs and wait for them; returns the exit code."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--policy" if kind == "evaluate" else "--round", dest="number", type=int, required=True)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and launch nothing")
    arguments = parser.parse_args()

    def launch() -> None:
        run = RunDir(arguments.run)
        config = configuration.read(run.config)
        wanted = stages(kind, config, run, arguments.number)
        if arguments.dry_run:
            for stage in wanted:
                print(stage.name, *command(stage.words))
            return
        jobs = [submit(config, run, stage) for stage in wanted]
        Console().print(f"submitted {', '.join(f'{j.stage.name} ({j.submitted.job_id})' for j in jobs)}")
        while any(job.exit_code() is None for job in jobs):
            time.sleep(0.5)
        for job in jobs:
            if code := job.exit_code():
                error = KINDS.get(code, InfrastructureError)
                raise error(f"{job.stage.name} ended with exit code {code}: {job.complaint()}")

    return guarded(launch)
