"""What a stage asks of Slurm: the options of sbatch and srun, and the lines that its site needs first."""

import shlex
from collections.abc import Mapping

from aworld.config import Site
from aworld.launch.arrays import Array
from aworld.stages import Stage

Options = dict[str, str | bool]  # by the long names of the options; True: it has no value


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
    """The options of `site.sbatch`: the word true is one without a value, false is none; _ is the - of an option."""
    kept = {key.replace("_", "-"): value for key, value in options.items() if value.lower() != "false"}
    return {key: value.lower() == "true" or value for key, value in kept.items()}


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
