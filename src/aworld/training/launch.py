"""Start the ranks of the trainer: on this node as torchrun does, or, under srun, one in each task."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from contextlib import suppress
from dataclasses import asdict

import psutil

from aworld import caches
from aworld.config import Config
from aworld.containers import container_binds, container_command, staged_image
from aworld.errors import InfrastructureError, Interrupted
from aworld.policies.folder import bases, damaged
from aworld.ports import EPHEMERAL, for_rendezvous, is_free
from aworld.processes import STARTER, Notice, die_with_parent
from aworld.publish import is_complete
from aworld.rundir import RunDir


def launch(config: Config, run: RunDir, round_: int | None) -> int:
    """Run `python -m aworld.training.rank` in the site's ranks.

    USR1, USR2 and TERM are passed on to the ranks, which save and end. So is Ctrl-C, as TERM; the ranks themselves
    ignore it.

    Returns:
        The exit code of the first rank that failed; 0 where none did, or where the policy is there already.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a launcher had it ignored
        signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    made = config.pipeline.rounds if round_ is None else round_
    # Under srun the ranks look, as they share the reading.
    if not is_rank(config) and is_complete(run.policy(made)) and _is_sound(run, made):
        print(f"{run.policy(made)} is there already")
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the ranks share the cores
    # One queue of a GPU: sums between tensor ranks then start before the products that they overlap with.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    os.environ[STARTER] = str(os.getpid())
    program = [sys.executable, "-u", "-m", "aworld.training.rank", str(run.root)]
    if round_ is not None:
        program += ["--round", str(round_)]
    image = staged_image(config.site.images.megatron, config.site.scratch)
    command = container_command(config.site, image, program, container_binds(run))
    model = config.model
    parts = (json.dumps(asdict(part)) for part in (model.architecture, model.parallel))
    programs = ("torch", "triton", "megatron-core", "transformer-engine")
    cache = caches.key("train", image, programs, model.dtype, model.recompute, *parts)
    local, archive = caches.folder_of(cache, config.site.scratch), run.caches / f"{cache}.tar"
    os.environ |= caches.warm(local, archive) if local else {}
    code = _run_one(command) if is_rank(config) else _run_all(config, command)
    if local and code in (0, Interrupted.exit_code) and os.environ.get("SLURM_PROCID", "0") == "0":
        caches.keep(local, archive)
    return code


def is_rank(config: Config) -> bool:
    """Whether this process is one of the tasks that srun started for the ranks.

    Several tasks are ranks even where their number differs from the site's: a job may have been submitted with another.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 0))
    return "SLURM_PROCID" in os.environ and (tasks > 1 or tasks == config.site.train.tasks)


def _is_sound(run: RunDir, version: int) -> bool:
    """Whether a complete policy has its bytes, and so has each one that its deltas need."""
    return not damaged(run, version) and not any(damaged(run, base) for base in bases(run, version))


def _run_one(command: list[str]) -> int:
    variables = rank_variables()
    port = int(variables["MASTER_PORT"])
    if variables["RANK"] == "0" and not is_free(port):
        raise InfrastructureError(
            f"another program has port {port} of node {os.uname().nodename}, where the ranks are to meet; the next "
            "start of the job takes another one"
        )
    os.environ.update(variables)
    notice = Notice(lambda: _pass_on(psutil.Process().children(), notice))  # first: the rank inherits the blocked USR1
    return subprocess.run(command, preexec_fn=die_with_parent, check=False).returncode


def rank_variables() -> dict[str, str]:
    """The variables that torch.distributed reads, made from those of srun."""
    job, restart = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return {
        "MASTER_ADDR": _first_host(),  # not what the user's shell has: that belongs to other work
        "MASTER_PORT": str(for_rendezvous(job, restart, EPHEMERAL.read_text())),
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": os.environ["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
    }


def _first_host() -> str:
    """The step's first node. Where only Slurm knows its name: the address of srun, which runs on that node."""
    nodes = os.environ["SLURM_STEP_NODELIST"]
    shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    first = shown.stdout.split()[0]
    try:
        socket.gethostbyname(first)
    except OSError:
        return os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    return first


def _run_all(config: Config, command: list[str]) -> int:
    # Importing torch takes seconds. A launcher that starts one rank under srun does not need it.
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as logs:  # stays empty; without it torch would leave a folder behind
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
        notice = Notice(lambda: _pass_on(psutil.Process().children(recursive=True), notice))
        try:
            elastic_launch(settings, command[0])(*command[1:])
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            return failure.exitcode
        except SignalException:  # torch has passed it on and waited
            return Interrupted.exit_code
        return 0


def _pass_on(processes: list[psutil.Process], notice: Notice) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM if notice.now else signal.SIGUSR1)
