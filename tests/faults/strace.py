"""Faults at exact system calls of a real program, by strace's injection: nothing in the program knows of it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from warm import aworld


@cache
def missing() -> str:
    """Why strace cannot be used here; empty where it can."""
    if shutil.which("strace") is None:
        return "no strace; `make cluster-packages` installs it"
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        return "strace may not trace here (a container without ptrace)"
    return ""


needed = pytest.mark.skipif(bool(missing()), reason=missing())


def run(words: list[str], injection: str, *options: str, log: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with `injection`, such as fsync:error=ENOSPC:when=2; each of its threads counts its own calls."""
    command = [*_strace(injection, options, log), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def run_aworld(
    words: list[str], injection: str, *options: str, log: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same of `aworld WORD …`, which is traced once it has imported its libraries."""
    return aworld(*words, tracer=[*_strace(injection, options, log), "-p"])


def _strace(injection: str, options: Iterable[str], log: Path | None = None) -> list[str]:
    call = injection.partition(":")[0]
    where = str(log or "/dev/null")
    return ["strace", "-qq", "-y", "-o", where, *options, "-e", f"trace={call}", "-e", f"inject={injection}"]


def kill_again_and_again(
    words: list[str], call: str, folder: Path, *options: str, counts: Iterable[int] = range(1, 60), forks: bool = True
) -> list[str]:
    """Start `aworld WORD …` anew until it ends well: its first life ends by SIGKILL at its 1st `call`, the next at its
    2nd …

    Args:
        forks: whether its lives are forks, whose environment and command line are not seen from outside.

    Returns:
        on what each life ended: a path below `folder` with # for numbers; empty for one elsewhere.
    """
    ends: list[str] = []
    log = folder.with_name("strace.log")
    for count in counts:
        injection = f"{call}:signal=SIGKILL:when={count}"
        command = [sys.executable, "-m", "aworld", *words]
        done = (run_aworld if forks else run)(words if forks else command, injection, *options, log=log)
        if done.returncode == 0:
            break
        calls = [line for line in log.read_text().splitlines() if "(" in line and "exited" not in line]
        path = re.search(rf"{re.escape(str(folder))}/([^\"<>]*)", calls[-1])
        ends.append(re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", re.sub(r"\.tmp-.*", ".tmp", path[1])) if path else "")
    else:
        done = aworld(*words)
    assert done.returncode == 0, done.stderr
    return ends
