"""Copies that nodes keep in the run directory, `copies/NODE`, and who still uses them.

A node cleans up after itself, unless it never comes back. Locks of another node tell little: not all file systems share
them. So each use notes its Slurm job, and a folder is free once the queue has none of these jobs.
"""

import fcntl
import os
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.locks import acquire
from aworld.publish import is_idle
from aworld.rundir import RunDir
from aworld.slurm import squeue

USERS = "users"  # a file for each job that ever used the folder, named as the job
BY_HAND = "by-hand"  # the name of the file for processes outside a job


def note_use(folder: Path) -> None:
    """Note that this process uses the copies of a node's folder, before it makes or opens one."""
    users = folder / USERS
    users.mkdir(exist_ok=True)
    (users / os.environ.get("SLURM_JOB_ID", BY_HAND)).touch()


def users_of(run: RunDir) -> dict[Path, str]:
    """Why the folder of each node in `copies/` stays. It may be removed where the reason is empty.

    Asks Slurm once, where there is a folder whose users were jobs.
    """
    folders = sorted(path for path in (run.root / "copies").glob("*") if path.is_dir())
    jobs = {folder: {path.name for path in (folder / USERS).glob("*")} for folder in folders}
    try:
        alive = _alive(set().union(*jobs.values()) - {BY_HAND})
    except InfrastructureError as reason:
        return dict.fromkeys(folders, str(reason))
    found = {}
    for folder in folders:
        try:
            found[folder] = _why(folder, jobs[folder], alive)
        except OSError as reason:  # another user's, or its node removed it just now
            found[folder] = f"it cannot be looked at: {reason.strerror}"
    return found


def _alive(jobs: set[str]) -> set[str]:
    return {job for (job,) in squeue("%A", "--me")} & jobs if jobs else set()


def _why(folder: Path, jobs: set[str], alive: set[str]) -> str:
    if used := sorted(jobs & alive):
        for ended in jobs - alive - {BY_HAND}:  # the notes of a run of weeks do not add up
            if is_idle(folder / USERS / ended):
                (folder / USERS / ended).unlink(missing_ok=True)
        return f"job {used[0]} may use it"
    if any(_is_used(path) for pattern in ("lock", "*.used") for path in folder.glob(f"policies/*/{pattern}")):
        return "a process uses it"
    if not is_idle(folder / USERS):  # its job may have begun after the question to Slurm
        return "it was used just now"
    if folder.name != os.uname().nodename and (not jobs or BY_HAND in jobs):
        return "it was used outside a job; remove it by hand if no process of that node is at work"
    return ""


def _is_used(lock: Path) -> bool:
    with open(lock, "r+") as file:
        return acquire(file, fcntl.LOCK_EX) == "held"
