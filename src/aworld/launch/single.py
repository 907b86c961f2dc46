"""Launch one stage of an existing run from the login node: what `jobs/rollout.py` and its like do."""

import argparse
import signal
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from aworld import config as configuration
from aworld.config import Change, Config
from aworld.errors import InfrastructureError, InputError, TaskError, guarded
from aworld.evaluation import benchmark
from aworld.launch import dag, executor, where
from aworld.launch.checks import check_evaluation, check_held_out, opened
from aworld.launch.plan import Stage
from aworld.launch.prepare import check, provenance
from aworld.launch.progress import Progress
from aworld.launch.script import scripts
from aworld.launch.status import on_benchmark
from aworld.processes import end_by_interrupt
from aworld.publish import is_complete
from aworld.rollout.units import is_closed, reopen_failed, units_left
from aworld.rollout.workload import Workload, evaluation_workload, round_workload
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks import make_source

KILLED = -signal.SIGKILL
KINDS = {kind.exit_code: kind for kind in (InputError, TaskError)}


def stage_of(kind: str, config: Config, run: RunDir, number: int, tasks: str = "") -> Stage:
    """The stage of round (or, to evaluate, of policy) `number`; `tasks`: on this benchmark, not the run's own tasks."""
    option = "--policy" if kind == "evaluate" else "--round"
    words = (kind, str(run.root), option, str(number), *(("--tasks", tasks) if tasks else ()))
    name, restarts = f"{kind}-{tasks + '-' if tasks else ''}{number:04d}", config.pipeline.max_restarts
    return Stage(name, words, getattr(config.site, kind), max_restarts=restarts)


def launch_stage(kind: str, text: str | None) -> int:
    """Submit the stage; on a local site wait for it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="such as site.train.minutes=30")
    parser.add_argument("--policy" if kind == "evaluate" else "--round", dest="number", type=int, required=True)
    parser.add_argument("--dry-run", action="store_true", help="print what would be launched, and launch nothing")
    if kind == "evaluate":
        parser.add_argument("--name", help="of the benchmark's folder in evals/ (default: that of its tasks)")
        parser.add_argument("--begin-only", action="store_true", help="fix the benchmark's settings, launch nothing")
    arguments = parser.parse_intermixed_args()
    end_by_interrupt()

    def launch() -> None:
        run = RunDir(arguments.run)
        config, tasks = _configured(kind, run, arguments.words, getattr(arguments, "name", None))
        if kind == "evaluate" and not is_complete(run.policy(arguments.number)):
            there = ", ".join(str(version) for version in run.policies()) or "none"
            raise InputError(f"{run.root} has no policy {arguments.number} yet; there are: {there}")
        if kind == "evaluate":
            check_evaluation(config)
            _check_model(config, run, arguments.number, arguments.words)
            where.check_signal(config.site)
        else:
            check(config)
        if tasks and not arguments.dry_run:
            made_by, check_tasks = partial(provenance, config), partial(check_held_out, config)
            benchmark.begin(config, run, tasks, arguments.number, _named(arguments.words), made_by, check_tasks)
        elif kind == "evaluate":
            with opened(config, run.benchmark(tasks).parent / "tasks" if tasks else run.tasks) as source:
                check_held_out(config, source)
        if kind == "evaluate" and not arguments.dry_run:
            for workload in _workloads(kind, config, run, arguments.number, tasks):
                reopen_failed(workload)
        if kind == "evaluate" and arguments.begin_only:
            return
        stage = stage_of(kind, config, run, arguments.number, tasks)
        console = Console()
        if config.site.executor == "slurm":
            if arguments.dry_run:
                print(*scripts(config.site, run, stage, []), sep="\n")
                for said in dag.check(config, run, [stage], run.root):
                    Console(stderr=True).print(said, highlight=False, soft_wrap=True)
                return
            (launched,) = dag.submit(config, run, [stage])
            console.print(f"{stage.name}: {', '.join(launched.new or launched.kept)}", highlight=False)
        elif arguments.dry_run:
            for process in executor.processes(stage):
                print(process.name, *executor.command(process.words))
        else:
            _wait(config, run, stage, _workloads(kind, config, run, arguments.number, tasks), console)

    return guarded(launch)


def _configured(kind: str, run: RunDir, words: list[str], name: str | None) -> tuple[Config, str]:
    """The run's configuration, or of an evaluation with `tasks=NAME` that benchmark's, and what it is called."""
    own = configuration.read(run.config)
    tasks = name or (_named(words) if kind == "evaluate" else "")
    if not tasks:
        config = configuration.changed(own, words)
        for key, change in configuration.differences(own, config).items():
            if not _takes_effect(kind, config, key, change):
                other = "; to evaluate otherwise, give it a --name" if kind == "evaluate" else ""
                raise InputError(
                    f"{key}={change.now} does not reach the job, which goes by {run.config}: {key}={change.was}; "
                    f"leave it out{other}"
                )
        return config, ""
    where.check_name(tasks, "--name")
    if tasks == HELD_OUT:
        raise InputError(f"--name {tasks} is the run's own evaluation; give it another")
    if run.benchmark(tasks).exists() and not benchmark.is_another(run, tasks, _named(words)):  # as it was begun
        others = [word for word in words if not word.startswith("tasks=")]  # `begin` looks at it
        return configuration.changed(configuration.read(run.benchmark(tasks)), others), tasks
    return configuration.changed(own, words), tasks


def _check_model(config: Config, run: RunDir, version: int, words: list[str]) -> None:
    """
    Raises:
        InputError: a setting of the agent's does not reach the model that is evaluated.
    """
    agent, evaluation = config.agent, config.evaluation
    if evaluation.temperature is not None and any(word.startswith("agent.temperature=") for word in words):
        raise InputError(
            f"agent.temperature does nothing here: evaluation.temperature={evaluation.temperature:g} counts; set that"
        )
    if evaluation.endpoint.model and (agent.top_k != -1 or not agent.enable_thinking):
        raise InputError(
            f"agent.top_k={agent.top_k} and agent.enable_thinking={str(agent.enable_thinking).lower()} do not reach an "
            "endpoint: leave them at -1 and true, and say in evaluation.endpoint.extra what its requests need, such as "
            "{top_k: 20, chat_template_kwargs: {enable_thinking: false}}"
        )
    if not agent.enable_thinking:
        from aworld.agents.chat import ChatFormat  # importing transformers takes a second

        ChatFormat(run.policy(version), agent.answer_form, agent.enable_thinking)


def _takes_effect(kind: str, config: Config, key: str, change: Change) -> bool:
    """Whether the launcher of a stage reads the setting. The job itself reads the run's own settings."""
    if config.site.executor == "local" and kind in ("gather", "train") and key.startswith(f"site.{kind}."):
        return False  # without Slurm the stage starts its own ranks
    return change.at_each_launch


def _named(words: list[str]) -> str:
    """The NAME of `tasks=NAME`, if that is said."""
    return ([""] + [word.removeprefix("tasks=") for word in words if word.startswith("tasks=")])[-1]


def _workloads(kind: str, config: Config, run: RunDir, number: int, tasks: str) -> list[Workload]:
    """What a person waits for."""
    if kind == "evaluate" and tasks:
        return [on_benchmark(run, tasks, number)]
    source = make_source(config.tasks, run.tasks)
    of = evaluation_workload if kind == "evaluate" else round_workload
    return [of(config, run, source, number)]


def _wait(config: Config, run: RunDir, stage: Stage, workloads: list[Workload], console: Console) -> None:
    jobs: list[executor.Job] = []
    try:
        for process in executor.processes(stage):
            jobs.append(executor.submit(run, process))
        names = ", ".join(f"{job.stage.name} ({job.submitted.job_id})" for job in jobs)
        console.print(f"started {names}", soft_wrap=True)
        with Progress(console, config, run, workloads) as progress:
            spare = {job.stage.name for job in jobs if stage.has_workers}
            while True:
                for at, job in enumerate(jobs):
                    if job.exit_code() == KILLED and job.stage.name in spare:  # what it held waits for its return
                        spare.remove(job.stage.name)
                        jobs[at] = executor.submit(run, job.stage)
                        console.print(f"{job.stage.name} was killed; started again", soft_wrap=True)
                if all(job.exit_code() is not None for job in jobs):
                    break
                time.sleep(0.5)
                progress.update()
    finally:
        for job in jobs:
            if job.exit_code() is None:  # told to end, or one of them could not be started
                job.end(run)
    for job in jobs:
        if not (code := job.exit_code()):
            continue
        told = f"{job.stage.name} ended with exit code {code}: {job.complaint()}"
        if not _is_done(stage, workloads):
            raise KINDS.get(code, InfrastructureError)(told)
        console.print(f"[yellow]warning:[/] {escape(told)}; the others have played its share", soft_wrap=True)


def _is_done(stage: Stage, workloads: list[Workload]) -> bool:
    """Whether all episodes of a stage with workers are there, whoever of them was lost."""
    if not stage.has_workers or any(map(units_left, workloads)):
        return False
    return all(is_closed(workload) or workload.phase.is_trained_on for workload in workloads)
