"""Start the ranks of the gather: on this node by mpiexec, or, under srun, one in each task."""

import os
import subprocess
import sys
from pathlib import Path

from aworld.config import Config
from aworld.containers import container_command, staged_image
from aworld.errors import AWorldError, InfrastructureError, InputError, Interrupted, TaskError
from aworld.processes import STARTER, Notice, die_with_parent
from aworld.rundir import RunDir
from aworld.trajectories.file import discard_if_damaged

# Launchers tell their ranks about the world in such variables. mpiexec, started from inside one of the ranks, must not
# see them: it would take itself for a rank.
LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_", "HYDRA_", "HYDI_")


def run_gather(config: Config, run: RunDir, round_: int, episodes: int) -> None:
    """Run the MPI program on this node, unless the round is gathered already.

    Raises:
        InfrastructureError, TaskError, InputError: it failed; the message quotes its own.
    """
    discard_if_damaged(run, round_)
    if run.trajectories(round_).exists():
        return
    site, beside = config.site, Path(sys.executable).with_name("mpiexec")
    # Of the Python that runs the ranks, so that both have one MPI; an image's own Python has the image's mpiexec.
    mpiexec = str(beside) if beside.exists() and (site.bind_python or not site.images.megatron) else "mpiexec"
    command = _in_image(config, run, [mpiexec, "-n", str(site.gather.tasks), *_program(run, round_, episodes)])
    env = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
    env |= {"OMP_NUM_THREADS": "1", STARTER: str(os.getpid())}
    done = subprocess.run(command, env=env, capture_output=True, text=True, preexec_fn=die_with_parent, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        sys.stderr.writelines(f"{line}\n" for line in lines if line.startswith("warning: "))
        reasons = [line for line in lines if line.startswith("error: ")] or lines
        reason = " ".join(reasons[-3:]).removeprefix("error: ") or f"a rank was lost (exit code {done.returncode})"
        raise _error_type(done.returncode)(f"gathering round {round_}: {reason}")
    sys.stderr.write(done.stderr)


def run_as_rank(config: Config, run: RunDir, round_: int, episodes: int) -> None:
    """Run one rank of the MPI program, in a task that srun started.

    Raises:
        Interrupted: the job was told to end.
        InfrastructureError, TaskError, InputError: it failed; its own message is in the task's log.
    """
    notice = Notice()
    command = _in_image(config, run, _program(run, round_, episodes))
    env = os.environ | {"OMP_NUM_THREADS": "1", STARTER: str(os.getpid())}
    # close_fds: MPI talks to srun through a file it inherits
    code = subprocess.run(command, env=env, close_fds=False, preexec_fn=die_with_parent, check=False).returncode
    if code and notice.now:
        raise Interrupted(f"told to end while gathering round {round_}")
    if code:
        raise _error_type(code)(f"gathering round {round_} ended with exit code {code}; its reason is above")


def _program(run: RunDir, round_: int, episodes: int) -> list[str]:
    arguments = [str(run.root), "--round", str(round_), "--episodes", str(episodes)]
    return [sys.executable, "-m", "aworld.trajectories.gather", *arguments]


def _in_image(config: Config, run: RunDir, command: list[str]) -> list[str]:
    image = staged_image(config.site.images.megatron, config.site.scratch)
    return container_command(config.site, image, command, [run.root])


def _error_type(code: int) -> type[AWorldError]:
    """The type of error that ends a program with this exit code."""
    return {kind.exit_code: kind for kind in (InputError, TaskError)}.get(code, InfrastructureError)
