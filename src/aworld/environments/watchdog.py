"""Limits on the sum over all processes and files of one sandbox.

The kernel limits such sums for an ordinary user by delegated cgroups alone, which Slurm rarely offers. So the pool asks
here, twice a second where sandboxes are few, and one that is over its limits is killed. In between it can overshoot;
the job's own cgroup, which Slurm makes, is the bound of that.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from aworld import config as schema
from aworld.environments.reaper import descendants

SECONDS = 0.5  # from one look to the next
MAX_FILES = 20_000  # beyond, a look would take too long
PAGE = os.sysconf("SC_PAGE_SIZE")


def excess(pids: Iterable[int], scratch: Path, limits: schema.Environment) -> str:
    """The limit that the processes below `pids` and their scratch exceed, in words; empty where there is none."""
    below = [descendants(pid) for pid in pids]
    processes = [process for some in below for process in some]
    if len(processes) > limits.processes:
        return f"it had more than {limits.processes} processes"
    memory = limits.memory_mb << 20
    # only the second counts once what forks share, but it takes far longer
    if sum(map(_resident, processes)) > memory and sum(map(_proportional, processes)) > memory:
        return f"its processes used more than {limits.memory_mb} MB of memory"
    taken = size(scratch)
    if taken < 0:
        return f"it had more than {MAX_FILES} files"
    if taken + sum(map(_in_memory, [some[-1] for some in below if some])) > limits.scratch_mb << 20:
        return f"its files used more than {limits.scratch_mb} MB"
    return ""


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as pages:  # psutil takes five times as long
            return int(pages.read().split()[1]) * PAGE
    except OSError:
        return 0  # it has just ended


def _proportional(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except psutil.AccessDenied:  # the kernel hides a process that changed its credentials
        return _resident(pid)
    except psutil.Error:
        return 0


def size(folder: Path) -> int:
    """Bytes that a folder takes on its disk; -1 when it holds too many files to count."""
    total = files = 0
    for parent, _, names in os.walk(folder):
        files += len(names) + 1
        if files > MAX_FILES:
            return -1
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += (Path(parent) / name).lstat().st_blocks * 512
    return total


def _in_memory(pid: int) -> int:
    """Bytes of files on the tmpfs that only this process's mount namespace has: Apptainer's /dev, for one."""
    used = {}
    try:
        ours = {device for device, _ in _memory_files("self")}
        for device, where in _memory_files(pid):
            root = f"/proc/{pid}/root{where}"
            if device in ours or Path(root).stat().st_dev != os.makedev(*map(int, device.split(":"))):
                continue  # the last: another one lies on top of it
            files = os.statvfs(root)
            used[device] = (files.f_blocks - files.f_bfree) * files.f_frsize
    except OSError:
        pass  # it has just ended, or may not be looked at
    return sum(used.values())


def _memory_files(pid: int | str) -> Iterator[tuple[str, str]]:
    """The device and place of each tmpfs that a process sees."""
    with open(f"/proc/{pid}/mountinfo") as mounts:
        for line in mounts:
            if " - tmpfs " in line:
                words = line.split(maxsplit=5)
                yield words[2], words[4]
