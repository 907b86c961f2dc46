"""`aworld …`: the stages as commands, and what a person asks of a run.

Exit codes: 0 done, 2 bad input, 3 the work came out wrong, 4 the machine failed, 75 told to end early, 130 interrupted;
of status and watch: 0 the run is finished, 10 it is under way, 11 it stopped with work left.
"""

import argparse
import os
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld.config import Config
from aworld.doctor.task_check import add_to as of_tasks
from aworld.errors import InfrastructureError, InputError, TaskError, guarded, speak_utf8
from aworld.evaluation.commands import add_to as of_evaluations
from aworld.imports import without_collecting
from aworld.launch.lifetime import begin, in_job, in_own_job, note_end, sole_trainer, task_number
from aworld.locks import try_to_hold
from aworld.policies.commands import add_to as of_policies
from aworld.rundir import HELD_OUT, RunDir, open_run
from aworld.stages import AWAIT, EVALUATE, GATHER, REPORT, ROLLOUT, SUBMIT, TRAIN, Stage
from aworld.tasks import make_source
from aworld.tasks.task import TaskSet


def main(argv: list[str] | None = None) -> int:
    """Run one command; a failure that has a mend is one line on stderr."""
    speak_utf8()  # before the help is printed
    arguments = _parser().parse_args(argv)
    code = guarded(lambda: arguments.run(arguments))
    note_end(code)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aworld", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--version", action="version", version=f"aworld {version('aworld-slurm')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def of_run(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = add(name, run, text)
        command.add_argument("run_dir", metavar="RUN", help="the run directory, such as runs/demo")
        return command

    rollout = of_run("rollout", _rollout, "play this worker's share of a round, or of the whole run (stage)")
    rollout.add_argument("--worker", type=int, default=0, help="number of this job's first worker, from 0")
    rollout.add_argument("--round", type=int, help="only this round, and leave its gathering to `aworld gather`")
    gather = of_run("gather", _gather, "gather a round's journals into trajectories.h5 with MPI (stage)")
    gather.add_argument("--round", type=int, required=True)
    train = of_run("train", _train, "train on a round, or on every round of the run (stage)")
    train.add_argument("--round", type=int)
    await_ = of_run("await", _await, "wait until a policy is published, for the jobs that depend on this one (stage)")
    await_.add_argument("--policy", type=int, required=True, help="version of the policy")
    submit = of_run("submit", _submit, "submit a later round of a batch run, once this one has ended (stage)")
    submit.add_argument("--round", type=int, required=True, help="the round that has ended")
    evaluate = of_run("evaluate", _evaluate, "play this worker's share of an evaluation on the held-out tasks (stage)")
    evaluate.add_argument("--worker", type=int, default=0)
    evaluate.add_argument("--policy", type=int, required=True, help="version of the policy, 0 for the first")
    evaluate.add_argument("--tasks", metavar="NAME", help="a benchmark that jobs/evaluate.py has begun")

    prefetch = add("prefetch", _prefetch, "fetch a benchmark that jobs then read offline, with your own token")
    prefetch.add_argument("benchmark", choices=["gaia"])
    prefetch.add_argument("folder", metavar="FOLDER", type=Path, help="where the copy goes")
    corpus = add("corpus", _corpus, "index a folder of documents, or a JSONL dump, for the search tool")
    corpus.add_argument("source", metavar="FOLDER|FILE", type=Path, help="pdf, docx, html, txt, …; or title and text")
    corpus.add_argument("index", metavar="INDEX", type=Path, help="where it goes; then environment.corpus=INDEX")
    doctor = add("doctor", _doctor, "check this site, on the login node and on compute nodes, and suggest fixes")
    doctor.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as site=example (default: recipe=demo)")
    doctor.add_argument("--login-only", action="store_true", help="submit nothing")
    doctor.add_argument("--node", metavar="FOLDER", type=Path, help="only this node for STAGE, as lines of JSON")
    plan = add("plan", _plan, "what a run needs before it is submitted: memory, time, disk, GPU-hours, jobs")
    plan.add_argument(
        "words",
        nargs="+",
        metavar="RUN|KEY=VALUE",
        help="as for jobs/pipeline.py; a run brings its own figures",
    )
    plan.add_argument("--tokens", type=float, metavar="N", help="of an episode, on average (default: half a context)")
    plan.add_argument("--tool-seconds", type=float, metavar="S", default=0.0, help="of an episode in tools, on average")
    plan.add_argument("--preemptions", type=float, metavar="N", default=0.0, help="of a rollout worker in an hour")
    plan.add_argument(
        "--away-seconds", type=float, metavar="S", default=600.0, help="from a preemption to the worker's next episode"
    )
    prepare = add("prepare", _prepare, "make a run directory, and launch nothing")
    prepare.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as for jobs/pipeline.py")
    status = of_run("status", _status, "how far each stage is, by the run's files and what Slurm says")
    status.add_argument("--all", action="store_true", help="a row for each finished round, and each job")
    watch = of_run("watch", _watch, "status, again and again until the run ends")
    watch.add_argument("--every", type=float, help="seconds between two looks (default: the site's queue_seconds)")
    resume = of_run("resume", _resume, "submit what a run has left to do; jobs that wait or run are left as they are")
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as pipeline.mode=batch")
    of_run("cancel", _cancel, "cancel the run's jobs; what is finished stays")
    prune = of_run("prune", _prune, "remove the policies and checkpoints that nothing needs: pipeline.keep_…")
    prune.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    logs = of_run("logs", _logs, "the end of a stage's logs; without a stage: which there are")
    logs.add_argument("stage", nargs="?", metavar="STAGE", help="such as train, or rollout-0; rollout: all of them")
    logs.add_argument("--lines", type=int, default=20, help="of each log (default: 20)")
    of_run("report", _report, "write report.html and report.json from what is there")
    show = of_run("show", _show, "print an episode turn by turn")
    show.add_argument(
        "episode", metavar="EPISODE", nargs="?", help="ROUND/TASK/ATTEMPT or, as held-out-0, NAME-VERSION/…"
    )
    of_policies(commands)
    of_evaluations(commands)
    of_tasks(commands)
    containers = commands.add_parser("containers", help="build the images that a site names")
    build = containers.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "build", help="build one, as this user"
    )
    build.add_argument("image", metavar="environment|vllm|megatron")
    build.add_argument(
        "values", metavar="NAME=VALUE", nargs="*", help="what the definition leaves open: docs/containers.md"
    )
    build.add_argument("--output", type=Path, metavar="FILE", help="default: the image's name with .sif")
    build.set_defaults(run=_build_image)
    return parser


def _open(arguments: argparse.Namespace) -> tuple[Config, RunDir, TaskSet]:
    """The configuration, run directory and task source of an existing run."""
    config, run = open_run(Path(arguments.run_dir))
    return config, run, make_source(config.tasks, run.tasks)


def _console() -> Console:
    """Tables keep to a terminal's width; in a pipe or a file nothing is wrapped."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def _rollout(arguments: argparse.Namespace) -> None:
    from aworld.rollout.outcome import unfinished
    from aworld.rollout.workload import round_workload, schedule

    config, run, source = _open(arguments)
    number = arguments.round
    if number is None:
        workloads = unfinished(run, schedule(config, run, source))
    else:
        workloads = [round_workload(config, run, source, number)]
    _play(config, source, workloads, Stage.of(ROLLOUT, config, run, number), arguments.worker)


def _evaluate(arguments: argparse.Namespace) -> None:
    from aworld.evaluation import benchmark
    from aworld.rollout.workload import evaluation_workload

    name, version = arguments.tasks or HELD_OUT, arguments.policy
    if arguments.tasks:
        config, run, source = benchmark.read(RunDir(Path(arguments.run_dir)), name)
    else:
        config, run, source = _open(arguments)
    workloads = [evaluation_workload(config, run, source, version, name)]
    _play(config, source, workloads, Stage.of(EVALUATE, config, run, version, arguments.tasks or ""), arguments.worker)


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
        go_on(config, run, workloads, _console(), in_job=True)
    except InputError as reason:  # Slurm may take it the next time
        raise InfrastructureError(str(reason)) from None


def _play(config: Config, source: TaskSet, workloads: list, stage: Stage, first: int) -> None:
    with without_collecting():
        from aworld.rollout.stage import WorkerInfo, run_rollout

    number = first + task_number()
    worker = stage.task_of(number)
    begin(config, worker)
    with try_to_hold(worker.lock) as is_alone:
        # A copy of this worker may still be at work where Slurm lost sight of it: then this is one worker more.
        suffix = "" if is_alone else f"-{uuid.uuid4().hex[:8]}"
        gathers = stage.number is None
        who = WorkerInfo(number, worker.name + suffix, f"worker-{number}{suffix}", gathers, is_copy=not is_alone)
        run_rollout(config, stage.run, workloads, source, who)


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
    episodes = len(played) * workload.attempts
    (run_as_rank if in_job() else run_gather)(config, run, arguments.round, episodes)


def _train(arguments: argparse.Namespace) -> int:
    config, run, _ = _open(arguments)
    rank = Stage.of(TRAIN, config, run, arguments.round).task_of(task_number())
    begin(config, rank)
    # Where the file system shares no locks a second trainer may be at work: it publishes the same bits.
    with sole_trainer(rank.lock, config.site.poll_seconds):
        from aworld.training.launch import launch  # importing torch takes seconds

        return launch(config, run, arguments.round)


def _doctor(arguments: argparse.Namespace) -> int:
    from aworld.doctor.visit import report_node, visit

    if arguments.node:
        report_node(arguments.node, arguments.overrides[0], configuration.read(arguments.node / "run.yaml"))
        return 0
    has_recipe = any(override.startswith("recipe=") for override in arguments.overrides)
    overrides = [*([] if has_recipe else ["recipe=demo"]), *arguments.overrides]
    return visit(configuration.load(overrides), Console(), on_compute=not arguments.login_only)


def _prefetch(arguments: argparse.Namespace) -> None:
    from aworld.tasks.prefetch import prefetch_gaia

    for split, count in prefetch_gaia(arguments.folder).items():
        print(f"{arguments.folder}: {split}, {count} tasks")


def _corpus(arguments: argparse.Namespace) -> None:
    from aworld.environments.corpus import index

    pages, unread = index(arguments.source, arguments.index)
    print(f"{arguments.index}: {pages} pages" + (f"; {unread} files could not be read" if unread else ""))


def _plan(arguments: argparse.Namespace) -> None:
    from aworld.launch.estimate import estimate, read
    from aworld.planning.simulate import Preemption

    config, measured = read(arguments.words)
    preemption = Preemption(arguments.preemptions, arguments.away_seconds)
    estimate(config, _console(), measured, arguments.tokens, arguments.tool_seconds, preemption)


def _prepare(arguments: argparse.Namespace) -> None:
    from aworld.launch.prepare import prepare

    run, _ = prepare(configuration.load(arguments.overrides))
    print(run.root)


def _status(arguments: argparse.Namespace) -> int:
    from aworld.watch.overview import show_status

    config, run, _ = _open(arguments)
    return show_status(config, run, _console(), is_whole=arguments.all)


def _watch(arguments: argparse.Namespace) -> int:
    from aworld.watch.overview import watch

    config, run, _ = _open(arguments)
    return watch(config, run, _console(), arguments.every or config.site.queue_seconds)


def _resume(arguments: argparse.Namespace) -> None:
    from aworld.launch.start import start

    config, _, _ = _open(arguments)
    start(configuration.changed(config, arguments.overrides), Console())


def _cancel(arguments: argparse.Namespace) -> None:
    from aworld.launch import jobs, local

    config, run, _ = _open(arguments)
    ended = (jobs.cancel if config.site.executor == "slurm" else local.cancel)(run)
    print(f"cancelled {', '.join(ended)}" if ended else "no job of this run waits or runs")


def _prune(arguments: argparse.Namespace) -> None:
    from aworld.training import retention

    config, run = open_run(Path(arguments.run_dir))
    found = [*retention.policies(config, run), *retention.checkpoints(config, run)]
    for each in found:
        if each.why:
            print(f"stays  {each.folder.relative_to(run.root)}  ({each.why})")
    goes = list(retention.sizes([each for each in found if not each.why]))
    for each, size in goes:
        print(f"goes   {each.folder.relative_to(run.root)}  {size:,} bytes")
    if not arguments.dry_run:
        retention.prune_policies(config, run)
        retention.prune_checkpoints(config, run)
    what = "would be removed" if arguments.dry_run else "removed"
    print(f"{len(goes)} {what}, {sum(size for _, size in goes):,} bytes")


def _logs(arguments: argparse.Namespace) -> None:
    from aworld.watch.logs import print_logs

    _, run, _ = _open(arguments)
    print_logs(run, arguments.stage, arguments.lines)


def _report(arguments: argparse.Namespace) -> None:
    from aworld.evaluation.report import report

    config, run, _ = _open(arguments)
    if in_own_job():
        begin(config, Stage.of(REPORT, config, run))
    report(config, run)
    print(run.root / "report.html")


def _build_image(arguments: argparse.Namespace) -> None:
    from aworld.containers import sha256
    from aworld.launch.images import build

    image = arguments.output or Path(f"{arguments.image}.sif")
    build(arguments.image, arguments.values, image)
    print(f"{image}: {image.stat().st_size / 1e6:.0f} MB, sha256 {sha256(image)}")


def _show(arguments: argparse.Namespace) -> None:
    from aworld.watch.show import show

    _, run, _ = _open(arguments)
    show(run, arguments.episode, Console())
