"""Faults at exact system calls of a real program, by strace's injection: nothing in the program knows of it."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest


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
    call = injection.partition(":")[0]
    command = ["strace", "-qq", "-y", "-o", str(log or "/dev/null"), *options, "-e", f"trace={call}"]
    return subprocess.run(
        [*command, "-e", f"inject={injection}", *words], capture_output=True, text=True, timeout=900, check=False
    )


def kill_again_and_again(
    words: list[str], call: str, folder: Path, *options: str, counts: Iterable[int] = range(1, 60)
) -> list[str]:
    """Start a command anew until it ends well: its first life ends by SIGKILL at its 1st `call`, the next at its 2nd …

    Returns:
        on what each life ended: a path below `folder` with # for numbers; empty for one elsewhere.
    """
    ends: list[str] = []
    log = folder.with_name("strace.log")
    for count in counts:
        done = run(words, f"{call}:signal=SIGKILL:when={count}", *options, log=log)
        if done.returncode == 0:
            break
        calls = [line for line in log.read_text().splitlines() if "(" in line and "exited" not in line]
        path = re.search(rf"{re.escape(str(folder))}/([^\"<>]*)", calls[-1])
        ends.append(re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", re.sub(r"\.tmp-.*", ".tmp", path[1])) if path else "")
    else:
        done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return ends
