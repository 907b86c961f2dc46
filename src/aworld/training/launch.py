"""Start the ranks of the trainer: all of them on this node, or, under srun, one in each task."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import NoReturn

import psutil

from aworld import caches
from aworld.config import Config
from aworld.containers import GPU_DRIVER, container_binds, container_command, staged_image
from aworld.errors import InfrastructureError, Interrupted
from aworld.policies.folder import bases, damaged
from aworld.ports import EPHEMERAL, for_rendezvous, is_free, own_block
from aworld.processes import STARTER, Notice, die_with_parent, end_with
from aworld.publish import is_complete
from aworld.rundir import RunDir

GRACE = 30.0  # seconds for the other ranks to end once one has failed


def launch(config: Config, run: RunDir, round_: int | None) -> int:
    """Run `python -m aworld.training.rank` in the site's ranks.

    Where there is neither a GPU nor an image, they are forks of this process, and what they import is imported once.

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
    if is_rank(config):
        code = _run_one(command)
    elif image or GPU_DRIVER.exists():  # a fork cannot use a GPU that its parent has looked at
        code = _run_all(config.site.train.tasks, lambda: None, lambda: become(command))
    else:
        from aworld.training import rank  # importing torch takes seconds

        code = _run_all(config.site.train.tasks, rank.load, lambda: rank.be(run, round_))
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


def _run_all(tasks: int, load: Callable[[], object], be_rank: Callable[[], int | None]) -> int:
    """Fork the ranks once `load` has imported for them; each ends with what `be_rank` returns."""
    notice = Notice(lambda: _pass_on(psutil.Process().children(recursive=True), notice))  # first, as above
    load()
    with own_block() as port:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(tasks)}
        places = [{"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(tasks)]
        ranks = [psutil.Process(_fork(meeting | place, be_rank)) for place in places]
        if notice.soon:  # it came before there were ranks to hear it
            _pass_on(ranks, notice)
        code = _wait(ranks)
    return Interrupted.exit_code if code and notice.now else code


def _fork(variables: dict[str, str], be_rank: Callable[[], int | None]) -> int:
    """The process id of a new rank, which sees these variables.

    It inherits the locks of this process on the training and on the ports. Where this process is killed, they are held
    until Linux has ended the last rank too: no other trainer begins beside one that may still write.
    """
    sys.stdout.flush()  # else both would write what is still held back
    pid = os.fork()
    if not pid:
        die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # this process's handlers are not the rank's
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as `python -u` does it
        os.environ.update(variables)
        end_with(be_rank)
    return pid


def become(command: list[str]) -> NoReturn:
    """Go on as this program.

    Raises:
        SystemExit: it is not there, in one line.
    """
    try:
        os.execvp(command[0], command)
    except OSError as reason:
        raise SystemExit(f"{command[0]} cannot be run on node {os.uname().nodename}: {reason.strerror}") from None


def _wait(ranks: list[psutil.Process]) -> int:
    """The exit code of the first rank that failed, 0 if none did. The others are told to end then, and soon killed."""
    code, alive = 0, {rank.pid: rank for rank in ranks}
    end = threading.Timer(GRACE, _send, (ranks, signal.SIGKILL))
    while alive:
        pid, status = os.wait()
        if alive.pop(pid, None) and not code and (code := os.waitstatus_to_exitcode(status)):
            _send(alive.values(), signal.SIGTERM)
            end.start()
    end.cancel()
    return code


def _pass_on(processes: Iterable[psutil.Process], notice: Notice) -> None:
    _send(processes, signal.SIGTERM if notice.now else signal.SIGUSR1)


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
