"""Slurm's own commands: what they answer, whatever the user's shell says to them."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from aworld.errors import InfrastructureError

ANSWER_SECONDS = 120.0  # the longest wait for a command of Slurm
# What the user's shell says to Slurm's commands. A submission from inside an allocation would ask for what that one
# has, and squeue would leave out jobs. Only where Slurm is, and who asks, is passed on.
SPOKEN = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_")
PASSED_ON = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")


def unspoken(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that no command of Slurm may see, and no job may inherit."""
    return [name for name in environment if name.startswith(SPOKEN) and name not in PASSED_ON]


def clean_environment() -> dict[str, str]:
    """The environment of every command of Slurm that is run here."""
    left_out = set(unspoken())
    return {name: value for name, value in os.environ.items() if name not in left_out}


def ask(*words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        InfrastructureError: it is not there, or fails, or does not answer.
    """
    done = run(words)
    if done.returncode:
        raise InfrastructureError(f"{words[0]} failed: {last_line(done.stderr)}")
    return done.stdout


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command of Slurm that has ended, with whatever exit code.

    Raises:
        InfrastructureError: it is not there, or does not answer.
    """
    try:
        return subprocess.run(
            words, env=clean_environment(), capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except FileNotFoundError:
        raise InfrastructureError(f"no {words[0]} on PATH; load Slurm's module, or use site=local") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{words[0]} gave no answer within {ANSWER_SECONDS:g} s; try again later") from None


def squeue(columns: str, which: str) -> list[list[str]]:
    """The rows of squeue, an element of an array each. The last column may hold the sign between columns.

    Raises:
        InfrastructureError: it does not answer, or with something else.
    """
    try:
        shown = ask("squeue", "--noheader", "--array", which, f"--format={columns}")
    except InfrastructureError as reason:
        if "Invalid job id" in str(reason):  # the only one that was asked for is forgotten
            return []
        raise
    rows = [line.strip().split("|", columns.count("|")) for line in shown.splitlines()]
    for row in rows:
        if len(row) <= columns.count("|"):
            raise InfrastructureError(f"squeue printed '{'|'.join(row)}', not {columns}; is it Slurm's own?")
    return rows


def last_line(text: str) -> str:
    """The last line of what a command of Slurm complained, without its prefix."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "it said nothing"
