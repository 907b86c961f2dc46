"""The doctor's round: the login node, then, through srun, two compute nodes."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from aworld.config import Config, Resources, to_yaml
from aworld.doctor import node, slurm
from aworld.doctor.check import Check, missing, ok
from aworld.launch.options import site_options
from aworld.slurm import clean_environment

COLOURS = {"ok": "green", "degraded": "yellow", "missing": "red"}
WAIT_SECONDS = 900  # for nodes to come free; then srun gives up, and takes its job out of the queue
AGAIN = "try again later, or choose a partition that has idle nodes: sinfo"


def visit(config: Config, console: Console, on_compute: bool) -> int:
    """Print every check; returns the exit code: 0, or 4 where something is missing."""
    Path(config.runs).mkdir(parents=True, exist_ok=True)
    found: list[Check] = []

    def show(place: str, checks: Iterator[Check]) -> None:
        console.print(f"\n[bold]{place}[/]")
        for check in checks:
            found.append(check)
            mend = f" → {check.mend}" if check.mend else ""
            level = f"[{COLOURS[check.level]}]{check.level:<8}[/]"
            console.print(f"{level} {check.name}: {escape(check.detail + mend)}", highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=config.runs) as folder:
        (Path(folder) / "run.yaml").write_text(to_yaml(config))
        if config.site.executor == "slurm":
            show("Slurm, asked from here", slurm.checks(config, Path(folder)))
        # with Slurm this is the login node, where no stage runs
        here = None if config.site.executor == "slurm" else config.site.rollout
        show(f"this node, {os.uname().nodename}", node.checks(config, Path(folder), here))
        if (
            config.site.executor == "slurm"
            and on_compute
            and all(c.level != "missing" or c.name != "Slurm" for c in found)
        ):
            console.print(f"\nnow jobs of a few minutes; each waits {WAIT_SECONDS // 60} minutes at most for its nodes")
            show("MPI over two compute nodes", _mpi(config, Path(folder)))
            for stage in dict.fromkeys(("rollout", "train")):
                show(f"a compute node for {stage}", _compute(config, stage, Path(folder)))
    return 4 if any(check.level == "missing" for check in found) else 0


def report_node(folder: Path, stage: str, config: Config) -> None:
    """Runs on the compute node: its checks for a stage as lines of JSON."""
    for check in node.checks(config, folder, getattr(config.site, stage)):
        print(json.dumps(check.as_json()), flush=True)


def _srun(config: Config, resources: Resources, wait: int, *words: str) -> list[str]:
    """An srun that asks of a node what the stage's job does, for ten minutes, and waits for it `wait` seconds at most.

    The CPUs are those of one task. The site's own lines come first, and its variables are set.
    """
    site = config.site
    options = {"account": site.account, "partition": resources.partition, "qos": resources.qos}
    options |= {"constraint": resources.constraint, "time": "10", "immediate": str(wait)}
    options |= {"cpus-per-task": str(resources.cpus_per_task)}
    if resources.mem_gb:
        options |= {"mem": f"{round(resources.mem_gb * 1024)}M"}
    if resources.gpus_per_node:
        gpus = resources.gpus_per_node
        options |= {"gres": f"{site.gres}:{gpus}"} if site.gres else {"gpus-per-node": str(gpus)}
    asked = site_options({key: value for key, value in (options | site.sbatch).items() if value})
    given = [f"--{key}" if value is True else f"--{key}={value}" for key, value in asked.items()]
    exports = [f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()]
    lines = "\n".join([*site.setup, *exports, 'exec "$@"'])
    return ["bash", "-c", lines, "doctor", "srun", "--quiet", *given, *words]


def _mpi(config: Config, folder: Path, wait: int = WAIT_SECONDS) -> Iterator[Check]:
    resources = config.site.gather
    program = (sys.executable, "-m", "aworld.doctor.world", str(folder / "run.yaml"))
    two = ("--nodes=2", "--ntasks-per-node=1", f"--mpi={config.site.mpi}")
    began = time.monotonic()
    command = _srun(config, resources, wait, *two, *program)
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    said = _last_line(done.stderr)
    sizes = [line.removeprefix("size ") for line in done.stdout.splitlines() if line.startswith("size ")]
    mend = "set site.mpi to one of `srun --mpi=list` that fits the MPI of mpi4py: pmi2 for MPICH, pmix for Open MPI"
    if sizes == ["2", "2"]:
        yield ok("MPI", f"--mpi={config.site.mpi} makes one world of two nodes")
    elif sizes == ["1", "1"]:
        yield missing("MPI", f"--mpi={config.site.mpi} makes two worlds of one process each", mend)
    elif _gave_up(said, began, wait):
        yield missing("MPI", f"no two nodes of {_partition(resources)} came free within {wait} s", AGAIN)
    else:
        other = "see that two nodes can be had at all as site.gather asks for them"
        yield missing("MPI", f"--mpi={config.site.mpi}: {said}", mend if "mpi" in said.lower() else other)


def _compute(config: Config, stage: str, folder: Path, wait: int = WAIT_SECONDS) -> Iterator[Check]:
    resources = getattr(config.site, stage)
    words = ("--nodes=1", "--ntasks=1", sys.executable, "-m", "aworld", "doctor", "--node", str(folder), stage)
    command = _srun(config, resources, wait, *words)
    began, count = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as complaints:  # a pipe, which nobody reads meanwhile, could fill
        srun = subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, stderr=complaints, text=True)
        with srun as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    count += 1
                    yield Check(**json.loads(line))
        complaints.seek(0)
        said = _last_line(complaints.read())
    if count == 0 and _gave_up(said, began, wait):
        yield missing("a job", f"no node of {_partition(resources)} came free within {wait} s", AGAIN)
    elif process.returncode or not count:
        yield missing("a job", f"srun failed: {said}", f"see that site.{stage} can be had at all")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _gave_up(said: str, began: float, wait: int) -> bool:
    """Whether srun got no node in time. It refuses an impossible request at once."""
    return "Unable to allocate resources" in said and time.monotonic() - began >= wait


def _partition(resources: Resources) -> str:
    return f"partition {resources.partition}" if resources.partition else "the default partition"
