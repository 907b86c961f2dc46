"""Run a command and leave nothing of it behind: `python -I -S reaper.py COMMAND …`.

As the subreaper of everything below it, it becomes the parent of whatever is orphaned, so that nothing slips away by
setsid or a double fork. It kills all of them when the command ends, on SIGTERM, and when its own parent ends, however
that ends: Linux forgets a parent-death signal where a program changes its credentials, as Apptainer does. Its exit
status is the command's. Imports little: it starts with every sandbox.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def descendants(pid: int) -> list[int]:
    """All processes below one, parents first, from the kernel's own lists: a scan of all of /proc is far slower."""
    found, unseen = [], [pid]
    while unseen:
        parent = unseen.pop(0)
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as f:
                    unseen += map(int, f.read().split())
        except OSError:
            pass  # it has just ended, or is another's for a moment, as Apptainer's where it is setuid
        found.append(parent)
    return found[1:]


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def end() -> None:
    """Kill all descendants, repeatedly, until none is left: they may fork meanwhile."""
    while below := descendants(os.getpid()):
        kill(below)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.001)


def stop(number: int, _: object) -> None:
    end()
    os._exit(128 + number)


def run(command: list[str]) -> int:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, stop)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    child = os.posix_spawnp(command[0], command, os.environ)
    for stream in (0, 1):  # they are the command's: who reads has to see that it closes them
        os.close(stream)
    while True:
        pid, status = os.wait()
        if pid == child:
            end()
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        os._exit(run(sys.argv[1:]))  # a normal exit would flush streams that are closed
    except OSError as reason:
        sys.exit(f"{sys.argv[1]}: {reason.strerror}")
