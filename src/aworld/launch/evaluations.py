"""The evaluations on benchmarks that a run plans, `pipeline.evaluations`: their settings, checks and workloads."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from aworld import config as configuration
from aworld import plugins
from aworld.config import Config
from aworld.config.places import find, lookup, short
from aworld.errors import InputError
from aworld.evaluation import benchmark
from aworld.launch import where
from aworld.launch.checks import check_chat, check_evaluation, check_held_out, check_unseen, opened
from aworld.rollout.workload import Workload, evaluation_workloads
from aworld.rundir import HELD_OUT, RunDir, numbered

SECTIONS = ("tasks", "environment", "agent", "evaluation")  # that an evaluation may set; the others are the run's


def check(config: Config) -> None:
    """Check the names and the overrides of `pipeline.evaluations`.

    Raises:
        InputError: a name is not there, or twice, or an override is not one of an evaluation.
    """
    run, seen = RunDir.of(config), set[str]()
    for entry in config.pipeline.evaluations:
        try:
            tasks, *overrides = shlex.split(entry)
        except (ValueError, AttributeError):  # it is empty, a quotation mark is open, or YAML read a colon as a mapping
            raise InputError(f"pipeline.evaluations: '{entry}' is not NAME KEY=VALUE …; mend it") from None
        name = short(tasks)
        if name != HELD_OUT and not run.benchmark(name).exists():
            try:
                find("tasks", tasks)
            except InputError as reason:
                raise InputError(f"pipeline.evaluations: {reason}; or {HELD_OUT}, the run's own tasks") from None
        if name in seen:
            raise InputError(f"pipeline.evaluations: {name} is there twice; give the other a file of another name")
        seen.add(name)
        if name == HELD_OUT and overrides:
            raise InputError(f"pipeline.evaluations: {entry}: {HELD_OUT} has the run's settings; leave out the others")
        for override in overrides:
            if override.partition("=")[0] in ("tasks.source", "tasks.split"):
                raise InputError(f"pipeline.evaluations: {entry}: {override} is another benchmark; name that one")
            if override.partition("=")[0].partition(".")[0] not in SECTIONS or override.startswith("tasks="):
                raise InputError(
                    f"pipeline.evaluations: {entry}: {override} is none of {'.…, '.join(SECTIONS)}.…; set it for the "
                    "whole run"
                )


def configurations(config: Config, run: RunDir, has_model: bool = True) -> dict[str, Config]:
    """The configuration of each planned benchmark, by its name, checked but for its tasks.

    More attempts that were asked for by hand stay. Where the file of its tasks is gone, or not seen from this node, the
    run's own copy in the benchmark's folder counts.

    Args:
        has_model: whether `config.model` is the run's; a plan leaves out the path of its checkpoint.

    Raises:
        InputError: it cannot be played, or the run trains on its tasks.
    """
    found = {}
    for tasks, *overrides in map(shlex.split, config.pipeline.evaluations) if config.trains else ():
        name = short(tasks)
        if name == HELD_OUT:
            continue
        try:
            if lookup("tasks", tasks) is None and run.benchmark(name).exists():
                own = replace(config, tasks=configuration.read(run.benchmark(name)).tasks)
            else:
                own = configuration.changed(config, [f"tasks={tasks}"])
            own = configuration.changed(own, overrides)
            where.make_absolute(own)
            check_unseen(config.tasks, own.tasks)
            check_evaluation(own, run.benchmark(name).parent / plugins.FOLDER)
            if own.agent != config.agent and has_model:
                check_chat(own)
        except InputError as reason:
            raise InputError(f"pipeline.evaluations: {name}: {reason}") from None
        if run.benchmark(name).exists():
            before = configuration.read(run.benchmark(name))
            own.evaluation.attempts = max(own.evaluation.attempts, before.evaluation.attempts)
        found[name] = own
    return found


def begin(config: Config, run: RunDir, provenance: Callable[[Config], dict[str, str]]) -> None:
    """Fix the settings of each planned benchmark, and make the folders of the policies that will play it.

    Raises:
        InputError: as `configurations`; it was played with other settings, or its tasks cannot be had.
    """
    versions = config.pipeline.evaluated
    for name, own in configurations(config, run).items():
        try:
            benchmark.begin(own, run, name, versions[0], name, partial(provenance, own), partial(check_held_out, own))
        except InputError as reason:
            raise InputError(f"pipeline.evaluations: {name}: {reason}") from None
        there = {folder.name for folder in numbered(run.benchmark(name).parent)}
        for folder in (run.evaluation(name, version) for version in versions):
            if folder.name not in there:
                folder.mkdir(parents=True, exist_ok=True)


def workloads(config: Config, run: RunDir) -> list[Workload]:
    """The workloads of the planned benchmarks: for each benchmark one of each policy to evaluate.

    Raises:
        InputError: as `configurations`; its tasks cannot be had.
    """
    found = []
    for name, own in configurations(config, run).items():
        with opened(own, run.benchmark(name).parent / "tasks") as source:
            check_held_out(own, source)
            found += evaluation_workloads(own, run, source, config.pipeline.evaluated, name)
    return found
