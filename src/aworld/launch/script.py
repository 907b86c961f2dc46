"""A stage as batch scripts: what each asks Slurm for, and the command that it runs.

submitit writes the text. The script runs the stage's own command, so that it can be read, and submitted again by hand.
"""

import shlex
import sys
from dataclasses import dataclass
from typing import Any

from submitit.slurm.slurm import _make_sbatch_string

from aworld.config import Site
from aworld.errors import InputError
from aworld.launch.plan import Stage
from aworld.rundir import RunDir

COME_BACK = [
    "code=$?",
    "# srun returns the highest code: that of a task which was ended because another had failed",
    'read -r told <"$AWORLD_JOB.code" && code=$told',
    'rm -f "$AWORLD_JOB.code"',
    "# bad input and bad outcomes stay so; told to end, lost its machine, killed: again, unless the job was cancelled",
    'case $code in 0 | 2 | 3) exit "$code" ;; esac',
    'scontrol show job "$job" | grep -q JobState=RUNNING && scontrol requeue "$job"',
    'exit "$code"',
]


def beginning(max_restarts: int) -> list[str]:
    """The first lines of a script. They count the starts of a job of which no task begins, as where srun refuses it."""
    most = max(1, max_restarts)
    return [
        "trap : TERM USR1 USR2 # meant for the step below; bash would die of them, and the job with it",
        "# an element of an array alone: the last to start has the number of the whole array",
        "job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}",
        "export AWORLD_JOB=${RUN:?}/starts/$job # its tasks remove .tries as they begin, and write .code",
        'mkdir -p "$RUN/starts"',
        ': >"$AWORLD_JOB.code"',
        'echo "$SLURMD_NODENAME" >>"$AWORLD_JOB.tries"',
        f'if [ "$(wc -l <"$AWORLD_JOB.tries")" -gt {most} ]; then',
        f'    echo "error: job $job began {most + 1} times, its tasks never; mend the cause above: aworld resume $RUN"',
        '    rm "$AWORLD_JOB.tries"',
        "    exit 3",
        "fi",
    ]


@dataclass(frozen=True)
class Part:
    """What one call of sbatch submits: these elements of a stage's array, so many of them at once."""

    elements: list[int]
    at_once: int


def parts(site: Site, stage: Stage, elements: list[int] | None = None) -> list[Part]:
    """A stage's elements (None: all) in as few arrays as the site's limit allows, all of about the same length.

    `site.array_parallel` holds for all of them together: each gets its share.

    Raises:
        InputError: an array may have no element, or there are more arrays than elements may run at once.
    """
    if site.array_limit < 1:
        raise InputError(f"site.array_limit={site.array_limit} allows no element of an array; set it to 1 or more")
    left = list(range(stage.resources.elements)) if elements is None else elements
    count = -(-len(left) // site.array_limit)
    if 0 < site.array_parallel < count:
        raise InputError(
            f"{stage.name}: site.array_parallel={site.array_parallel} is less than the {count} arrays that "
            f"{len(left)} elements need where site.array_limit={site.array_limit}; raise it, or ask for fewer elements"
        )
    lengths = _shares(len(left), count)
    at_once = _shares(site.array_parallel, count) if site.array_parallel else lengths
    starts = [sum(lengths[:at]) for at in range(count)]
    return [
        Part(left[start : start + length], most) for start, length, most in zip(starts, lengths, at_once, strict=True)
    ]


def _shares(total: int, count: int) -> list[int]:
    return [total // count + (at < total % count) for at in range(count)]


def scripts(site: Site, run: RunDir, stage: Stage, after: list[str]) -> list[str]:
    """The texts of the batch scripts that `slurm.submit` hands to sbatch for the whole stage."""
    return [_text(site, run, stage, part, after) for part in parts(site, stage)]


def script(site: Site, run: RunDir, stage: Stage, after: list[str]) -> str:
    """The first of `scripts`."""
    return scripts(site, run, stage, after)[0]


def _text(site: Site, run: RunDir, stage: Stage, part: Part, after: list[str]) -> str:
    array = {"map_count": len(part.elements)} if len(part.elements) > 1 else {}
    settings = parameters(site, run, stage, part, after)
    return _make_sbatch_string(command(stage, part.elements), run.logs, **array, **settings)


def shape(text: str) -> tuple[str, ...]:
    """What a script asks for: equal for two that Slurm takes, or refuses, alike."""
    own = ("--job-name", "--output", "--dependency", "--kill-on-invalid-dep")
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return tuple(line for line in lines if not line.startswith(own))


def command(stage: Stage, part: list[int]) -> str:
    """The shell command that every task of the job runs, for these elements of the stage's array.

    Their numbers may exceed what the site takes as an index of an array, so the job counts its own from 0.
    """
    words = shlex.join([sys.executable, "-u", "-m", "aworld", *stage.words])
    if not stage.has_workers:
        return words
    tasks = stage.resources.tasks
    if len(part) == 1:
        return f"{words} --worker {part[0] * tasks}"
    if part == list(range(part[0], part[0] + len(part))):
        return f"{words} --worker $(( (SLURM_ARRAY_TASK_ID + {part[0]}) * {tasks} ))"
    numbers = " ".join(str(element * tasks) for element in part)
    return f"{words} --worker $(set -- {numbers}; shift $SLURM_ARRAY_TASK_ID; echo $1)"


def job_name(run: RunDir, stage: Stage) -> str:
    return f"{run.root.name}.{stage.name}"


def further(options: dict[str, str]) -> dict[str, str | bool]:
    """`site.sbatch` as submitit takes options: the word true is one without a value, false is none."""
    return {key: value.lower() == "true" or value for key, value in options.items() if value.lower() != "false"}


def parameters(site: Site, run: RunDir, stage: Stage, part: Part, after: list[str]) -> dict[str, Any]:
    """What submitit is told about a job."""
    resources, gpus = stage.resources, stage.resources.gpus_per_node
    extra: dict[str, Any] = further({"requeue": "true", **site.sbatch})
    if after:
        kind = "afterany" if stage.come_what_may else "afterok"
        extra |= {"dependency": ":".join([kind, *after]), "kill-on-invalid-dep": "yes"}
    together = stage.words[0] in ("gather", "train")  # a rank that is lost would let the others wait
    wanted = {
        "job_name": job_name(run, stage),
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "mem": f"{round(resources.mem_gb * 1024)}M" if resources.mem_gb else None,
        "partition": resources.partition or None,
        "account": site.account or None,
        "qos": resources.qos or None,
        "constraint": resources.constraint or None,
        "gpus_per_node": gpus if gpus and not site.gres else None,
        "gres": f"{site.gres}:{gpus}" if gpus and site.gres else None,
        "array_parallelism": part.at_once,
        "signal_delay_s": site.signal_seconds,
        "setup": [
            f"RUN={shlex.quote(str(run.root.absolute()))}",
            *beginning(stage.max_restarts),
            *site.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()),
        ],
        "teardown": COME_BACK,
        "srun_args": [
            f"--mpi={site.mpi if stage.words[0] == 'gather' else 'none'}",
            f"--cpus-per-task={resources.cpus_per_task}",  # since 22.05 srun does not take it from sbatch
            f"--kill-on-bad-exit={int(together)}",
        ],
        "stderr_to_stdout": True,
        "additional_parameters": extra,
    }
    return {key: value for key, value in wanted.items() if value is not None} | {"wckey": None}
