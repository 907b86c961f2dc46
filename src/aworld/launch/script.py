"""The batch scripts of a stage, made from the template `stage.sbatch.j2`.

A script runs the stage's own command, so that it can be read, and submitted again by hand. Each task has a log in the
run directory, JOB_TASK_log.out, or JOB_ELEMENT_TASK_log.out in an array. The batch script shares that of task 0.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from aworld.config import Site
from aworld.launch.arrays import Array, arrays
from aworld.launch.options import Options, sbatch_options, setup_lines, srun_options
from aworld.stages import Stage

TEMPLATE = Path(__file__).with_name("stage.sbatch.j2")


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
    return render(options, step, site, stage.max_restarts, run=run)


def render(
    options: Options,
    step: str,
    site: Site,
    max_restarts: int = 2,
    run: str = "",
    about: Sequence[str] = (),
) -> str:
    """A batch script.

    Args:
        options: of sbatch, by their long names.
        step: the shell command whose exit code is the job's.
        max_restarts: how often a job may start again without any of its tasks beginning.
        run: the run directory, as a word of the shell; empty: the variable RUN is set by whoever submits.
        about: lines of a comment at its head.
    """
    template = jinja2.Template(TEMPLATE.read_text(), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    lines = [key if value is True else f"{key}={shlex.quote(str(value))}" for key, value in sorted(options.items())]
    given = {"setup": setup_lines(site), "notice": 2 * site.signal_seconds, "most": max(1, max_restarts), "run": run}
    return template.render(about=about, options=lines, step=step, **given)


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
