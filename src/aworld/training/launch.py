"""Start the ranks of the trainer: on this node as torchrun does, or, under srun, one in each task."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from contextlib import suppress

import psutil

from aworld.config import Config
from aworld.containers import folders, inside, staged
from aworld.errors import Interrupted
from aworld.processes import STARTER, Notice, die_with_parent
from aworld.rundir import RunDir, damaged, is_complete

FIRST_PORT = 20000  # of the rendezvous under srun; job and restart are added, so that jobs on one node do not meet


def launch(config: Config, run: RunDir, round_: int | None) -> int:
    """Run `python -m aworld.training.rank` in the site's ranks; returns the exit code of the first failure.

    USR1, USR2 and TERM are passed on to the ranks, which save and end. So is Ctrl-C, as TERM; the ranks
    themselves ignore it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a launcher wants its jobs to ignore it
        signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    made = run.policy(config.pipeline.rounds if round_ is None else round_)
    if is_complete(made) and not damaged(made):
        print(f"{made} is there already")
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the ranks share the cores
    os.environ[STARTER] = str(os.getpid())
    words = [str(run.root), *(["--round", str(round_)] if round_ is not None else [])]
    image = staged(config.site.images.megatron, config.site.scratch)
    command = inside(config.site, image, [sys.executable, "-u", "-m", "aworld.training.rank", *words], folders(run))
    return _one(command) if is_rank(config) else _all(config, command)


def is_rank(config: Config) -> bool:
    """Whether this process is one of the tasks that srun started for the ranks.

    Several tasks are, also where they are not as many as the run's site says: a job may have been told otherwise.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 0))
    return "SLURM_PROCID" in os.environ and (tasks > 1 or tasks == config.site.train.tasks)


def _one(command: list[str]) -> int:
    os.environ.update(_rank())
    notice = Notice(lambda: _tell(psutil.Process().children(), notice))  # first, so that the rank is born deaf to USR1
    return subprocess.run(command, preexec_fn=die_with_parent, check=False).returncode


def _rank() -> dict[str, str]:
    """What torch.distributed wants to know, from what srun says."""
    job, restart = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return {
        "MASTER_ADDR": _first_host(),  # whatever these are in the user's shell: that is of other work
        "MASTER_PORT": str(FIRST_PORT + (7 * job + restart) % 10000),
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": os.environ["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
    }


def _first_host() -> str:
    """The step's first node; where its name is Slurm's alone, the address that srun was called from: the same node."""
    nodes = os.environ["SLURM_STEP_NODELIST"]
    shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    first = shown.stdout.split()[0]
    try:
        socket.gethostbyname(first)
    except OSError:
        return os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    return first


def _all(config: Config, command: list[str]) -> int:
    # Importing torch takes seconds. A launcher that starts one rank under srun does not need it.
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as logs:  # empty, as no output is redirected, but torch would leave its own
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.site.train.tasks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle="SIGTERM",
        )
        notice = Notice(lambda: _tell(psutil.Process().children(recursive=True), notice))
        try:
            elastic_launch(settings, command[0])(*command[1:])
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            return failure.exitcode
        except SignalException:  # torch has passed it on and waited
            return Interrupted.exit_code
        return 0


def _tell(processes: list[psutil.Process], notice: Notice) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM if notice.now else signal.SIGUSR1)
