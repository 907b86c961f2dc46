"""Virtual environments of agents from PyPI, each made once and kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from aworld.errors import InputError

SECONDS = 600.0


def program_venv(name: str, *packages: str) -> Path:
    """The folder of a virtual environment with these packages.

    Raises:
        InputError: pip does not get them.
    """
    key = hashlib.sha256("\n".join((sys.version, *packages)).encode()).hexdigest()[:16]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = data / "aworld" / "programs" / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)
            done.touch()
    return folder


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"{' '.join(command)} took longer than {SECONDS:g} s") from None
    if done.returncode:
        raise InputError(f"{' '.join(command)} failed: {' '.join(done.stderr.split())[-300:]}")
