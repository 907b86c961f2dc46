"""The stages as commands: each task of a batch script runs one of them."""

import argparse
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from aworld import config as configuration
from aworld.commands import Commands, console, of_run
from aworld.config import Config
from aworld.environments.sandbox import sandbox_of
from aworld.errors import InfrastructureError, InputError, TaskError
from aworld.imports import without_collecting
from aworld.launch.lifetime import begin, in_job, in_own_job, sole_trainer, task_number
from aworld.locks import try_to_hold
from aworld.rundir import HELD_OUT, RunDir, open_run
from aworld.stages import AWAIT, EVALUATE, GATHER, REPORT, ROLLOUT, SUBMIT, TRAIN, Stage
from aworld.tasks import make_source
from aworld.tasks.task import TaskSet
from aworld.trackers.beside import LAST_SECONDS, bring_up_to_date, kept_up


def add_to(commands: Commands) -> None:
    """Add the stages to the commands of `aworld`."""
    rollout = of_run(commands, "rollout", _rollout, "play this worker's share of a round, or of the whole run (stage)")
    rollout.add_argument("--worker", type=int, default=0, help="number of this job's first worker, from 0")
    rollout.add_argument("--round", type=int, help="only this round, and leave its gathering to `aworld gather`")
    gather = of_run(commands, "gather", _gather, "gather a round's journals into trajectories.h5 with MPI (stage)")
    gather.add_argument("--round", type=int, required=True)
    train = of_run(commands, "train", _train, "train on a round, or on every round of the run (stage)")
    train.add_argument("--round", type=int)
    await_ = of_run(
        commands, "await", _await, "wait until a policy is published, for the jobs that depend on this one (stage)"
    )
    await_.add_argument("--policy", type=int, required=True, help="version of the policy")
    submit = of_run(commands, "submit", _submit, "submit later jobs of a run, once this round is trained (stage)")
    submit.add_argument("--round", type=int, required=True, help="the round whose policy is there")
    evaluate = of_run(
        commands, "evaluate", _evaluate, "play this worker's share of an evaluation on the held-out tasks (stage)"
    )
    evaluate.add_argument("--worker", type=int, default=0)
    evaluate.add_argument("--policy", type=int, required=True, help="version of the policy, 0 for the first")
    evaluate.add_argument("--tasks", metavar="NAME", help="a benchmark that `aworld launch evaluate` has begun")
    of_run(commands, "report", _report, "write report.html and report.json from what is there")


def _open(arguments: argparse.Namespace) -> tuple[Config, RunDir, TaskSet]:
    """The configuration, run directory and task source of an existing run."""
    config, run = open_run(Path(arguments.run_dir))
    return config, run, make_source(config.tasks, run.tasks)


def _rollout(arguments: argparse.Namespace) -> None:
    from aworld.rollout.outcome import unfinished
    from aworld.rollout.workload import round_workload, schedule

    config, run, source = _open(arguments)
    number = arguments.round
    if number is None:
        workloads = unfinished(run, schedule(config, run, source))
    else:
        workloads = [round_workload(config, run, source, number)]
    is_first = arguments.worker + task_number() == 0
    with kept_up(config, run) if is_first else nullcontext():
        _play(config, source, workloads, Stage.of(ROLLOUT, config, run, number), arguments.worker)


def _evaluate(arguments: argparse.Namespace) -> None:
    from aworld.evaluation import benchmark
    from aworld.rollout.units import is_closed
    from aworld.rollout.workload import evaluation_workload

    name, version = arguments.tasks or HELD_OUT, arguments.policy
    if arguments.tasks:
        config, run, source = benchmark.read(RunDir(Path(arguments.run_dir)), name)
    else:
        config, run, source = _open(arguments)
    workloads = [evaluation_workload(config, run, source, version, name)]
    _play(config, source, workloads, Stage.of(EVALUATE, config, run, version, arguments.tasks or ""), arguments.worker)
    if is_closed(workloads[0]):
        bring_up_to_date(configuration.read_trackers(run.config), run, LAST_SECONDS)


def _await(arguments: argparse.Namespace) -> None:
    from aworld.rollout.awaiting import await_policy

    config, run = open_run(Path(arguments.run_dir))
    begin(config, Stage.of(AWAIT, config, run, arguments.policy))
    await_policy(run, arguments.policy, config.site.wait_seconds, config.site.poll_seconds)


def _submit(arguments: argparse.Namespace) -> None:
    from aworld.launch import evaluations
    from aworld.launch.dag import go_on
    from aworld.rollout.awaiting import await_policy
    from aworld.rollout.workload import schedule

    config, run, source = _open(arguments)
    begin(config, Stage.of(SUBMIT, config, run, arguments.round))
    # This node may see the policy later; without it, the training that has just ended would be submitted again.
    if run.newest_policy() < arguments.round:
        await_policy(run, arguments.round, config.site.wait_seconds, config.site.poll_seconds)
    workloads = [*schedule(config, run, source), *evaluations.workloads(config, run)]
    try:
        go_on(config, run, workloads, console(), ended=arguments.round)
    except InputError as reason:  # Slurm may take it the next time
        raise InfrastructureError(str(reason)) from None


def _play(config: Config, source: TaskSet, workloads: list, stage: Stage, first: int) -> None:
    number = first + task_number()
    worker = stage.task_of(number)
    begin(config, worker)
    with without_collecting(), ThreadPoolExecutor(1) as beside:
        chosen = beside.submit(sandbox_of, config)  # starts one to try it, which takes as long as these imports
        from aworld.rollout.stage import WorkerInfo, run_rollout

        sandbox = chosen.result()
    with try_to_hold(worker.lock) as is_alone:
        # A copy of this worker may still be at work where Slurm lost sight of it: then this is one worker more.
        suffix = "" if is_alone else f"-{uuid.uuid4().hex[:8]}"
        gathers = stage.number is None
        who = WorkerInfo(number, worker.name + suffix, f"worker-{number}{suffix}", gathers, is_copy=not is_alone)
        run_rollout(config, stage.run, workloads, source, who, sandbox)


def _gather(arguments: argparse.Namespace) -> None:
    from aworld.rollout.units import standing, units_left
    from aworld.rollout.workload import round_workload
    from aworld.trajectories.launch import run_as_rank, run_gather

    config, run, source = _open(arguments)
    workload = round_workload(config, run, source, arguments.round)
    rank = Stage.of(GATHER, config, run, arguments.round).task_of(task_number())
    begin(config, rank)
    played = standing(workload).units
    if left := units_left(workload):
        names = ", ".join(unit.task_id for unit in left[:3])
        raise TaskError(
            f"round {arguments.round} is not played to its end: {len(left)} of {len(played)} tasks are left "
            f"({names}{', …' if len(left) > 3 else ''}); go on with: aworld resume {run.root}"
        )
    episodes = sum(len(unit.attempts) for unit in played)
    (run_as_rank if in_job() else run_gather)(config, run, arguments.round, episodes)


def _train(arguments: argparse.Namespace) -> int:
    config, run, _ = _open(arguments)
    rank = Stage.of(TRAIN, config, run, arguments.round).task_of(task_number())
    begin(config, rank)
    # Where the file system shares no locks a second trainer may be at work: it publishes the same bits.
    beside = nullcontext() if task_number() else kept_up(config, run)
    with sole_trainer(rank.lock, config.site.poll_seconds), beside:
        from aworld.training.launch import launch  # importing torch takes seconds

        return launch(config, run, arguments.round)


def _report(arguments: argparse.Namespace) -> None:
    from aworld.evaluation.report import report

    config, run, _ = _open(arguments)
    if in_own_job():
        begin(config, Stage.of(REPORT, config, run))
    report(config, run)
    print(run.root / "report.html")
    if in_own_job():  # the last job of a run
        bring_up_to_date(config.trackers, run)
