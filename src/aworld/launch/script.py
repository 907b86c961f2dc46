"""The batch scripts of a stage, made from the template `stage.sbatch.j2`.

A script runs the stage's own command, so that it can be read, and submitted again by hand. Each task has a log in the
run directory, JOB_TASK_log.out, or JOB_ELEMENT_TASK_log.out in an array. The batch script shares that of task 0.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from aworld.launch.arrays import Array, arrays
from aworld.site import Site
from aworld.stages import Stage

TEMPLATE = Path(__file__).with_name("stage.sbatch.j2")
Options = dict[str, str | bool]  # of sbatch or srun, by long name; True: it has no value


def scripts(site: Site, stage: Stage, after: list[str]) -> list[str]:
    """The texts of the batch scripts that `submit` hands to sbatch for the whole stage."""
    return [script(site, stage, array, after) for array in arrays(site, stage)]


def script(site: Site, stage: Stage, array: Array, after: list[str]) -> str:
    """The text of the batch script of some of a stage's elements; `after`: ids of the jobs that come first."""
    logs = stage.run.logs.absolute()
    number = "%A_%a" if len(array.elements) > 1 else "%j"
    options = {"output": f"{logs}/{number}_0_log.out", **sbatch_options(site, stage, array, after)}
    output = shlex.quote(f"{logs}/{number}_%t_log.out")
    step = f"srun --unbuffered --output {output} {srun_options(site, stage)} \\\n    {command(stage, array.elements)}"
    run = shlex.quote(str(stage.run.root.absolute()))
    return render(options, step, setup_lines(site), stage.max_restarts, run=run)


def render(
    options: Mapping[str, str | bool],
    step: str,
    setup: Sequence[str] = (),
    max_restarts: int = 2,
    run: str = "",
    about: Sequence[str] = (),
) -> str:
    """A batch script.

    Args:
        options: of sbatch, by their long names.
        step: the shell command whose exit code is the job's.
        setup: shell lines before it.
        max_restarts: so often a job begins again of which no task begins.
        run: the run directory, as a word of the shell; empty: the variable RUN is set by whoever submits.
        about: lines of a comment at its head.
    """
    template = jinja2.Template(TEMPLATE.read_text(), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    lines = [key if value is True else f"{key}={shlex.quote(str(value))}" for key, value in sorted(options.items())]
    return template.render(about=about, options=lines, step=step, setup=setup, most=max(1, max_restarts), run=run)


def sbatch_options(site: Site, stage: Stage, array: Array, after: list[str]) -> Options:
    """The options of sbatch, but for `output`."""
    resources, count = stage.resources, len(array.elements)
    gpus = str(resources.gpus_per_node or "")
    wanted = {
        "account": site.account,
        "constraint": resources.constraint,
        "gres": f"{site.gres}:{gpus}" if gpus and site.gres else "",
        "mem": f"{round(resources.mem_gb * 1024)}M" if resources.mem_gb else "",
        "nodes": str(resources.nodes),
        "open-mode": "append",  # a job that comes back goes on with its log
        "partition": resources.partition,
        "qos": resources.qos,
        "signal": f"USR2@{site.signal_seconds}",
        "time": str(resources.minutes),
    }
    # The numbers of workers, srun and the run's own look at the queue rest on these: a site cannot change them.
    fixed = {
        "array": f"0-{count - 1}%{min(count, array.at_once)}" if count > 1 else "",
        "cpus-per-task": str(resources.cpus_per_task),
        "gpus-per-node": "" if site.gres else gpus,
        "job-name": stage.job_name,
        "ntasks-per-node": str(resources.tasks_per_node),
    }
    if after:
        fixed["dependency"] = ":".join(["afterany" if stage.kind.after_any else "afterok", *after])
        fixed["kill-on-invalid-dep"] = "yes"
    return {**_without_empty(wanted), **site_options({"requeue": "true", **site.sbatch}), **_without_empty(fixed)}


def _without_empty(options: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if value}


def site_options(options: Mapping[str, str]) -> Options:
    """The options of `site.sbatch`: the word true is one without a value, false is none."""
    return {key: value.lower() == "true" or value for key, value in options.items() if value.lower() != "false"}


def setup_lines(site: Site) -> list[str]:
    """The site's shell lines, and its variables."""
    return [*site.setup, *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items())]


def srun_options(site: Site, stage: Stage) -> str:
    """How srun starts the tasks of a stage."""
    return (
        f"--mpi={site.mpi if stage.kind.is_mpi else 'none'} "
        f"--cpus-per-task={stage.resources.cpus_per_task} "  # since 22.05 srun does not take it from sbatch
        f"--kill-on-bad-exit={int(stage.kind.has_ranks)}"
    )


def command(stage: Stage, elements: list[int]) -> str:
    """The shell command that every task of the job runs, for these elements of the stage."""
    return shlex.join([sys.executable, "-u", "-m", "aworld", *stage.arguments]) + worker_option(stage, elements)


def worker_option(stage: Stage, elements: list[int]) -> str:
    """`--worker` and the number of an element's first worker, which the shell computes; empty: there are no workers.

    The numbers of elements may exceed what the site takes as an index of an array, so a job counts its own from 0.
    """
    if not stage.kind.has_workers:
        return ""
    tasks, first = stage.resources.tasks, elements[0]
    if len(elements) == 1:
        number = str(first * tasks)
    elif elements == list(range(first, first + len(elements))):
        number = f"$(( (SLURM_ARRAY_TASK_ID + {first}) * {tasks} ))"
    else:
        numbers = " ".join(str(element * tasks) for element in elements)
        number = f"$(set -- {numbers}; shift $SLURM_ARRAY_TASK_ID; echo $1)"
    return f" \\\n    --worker {number}"


def shape(text: str) -> tuple[str, ...]:
    """What a script asks for: equal for two that Slurm takes, or refuses, alike."""
    own = ("--job-name", "--output", "--dependency", "--kill-on-invalid-dep")
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return tuple(line for line in lines if not line.startswith(own))
