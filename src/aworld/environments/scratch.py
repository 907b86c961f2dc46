"""Folders that contained code may write to. It may have planted links in them, or taken permissions from itself."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aworld.errors import InfrastructureError, InputError
from aworld.processes import try_to_hold

HELD = "held"
KEPT_CHARS = 1_000_000


@contextmanager
def folder_of_a_pool(root: Path) -> Iterator[Path]:
    """A new folder in `root`, only this user's; those that ended workers of this node left there are removed first."""
    prefix = f"aworld-environments-{os.uname().nodename}-"  # a lock may hold on its node alone
    for left in root.glob(f"{prefix}*/{HELD}"):
        with suppress(OSError), open(left) as f:  # a living worker's, another user's, or locks are not to be had
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(left.parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root)).resolve()
    with try_to_hold(folder / "new"):
        (folder / "new").rename(folder / HELD)  # from here on it is known, and held already
        try:
            yield folder
        finally:
            remove(folder)


def stage(files: tuple[Path, ...], scratch: Path) -> None:
    """Copy a task's attachments into a scratch, under their own names.

    Raises:
        InputError: a file is not there.
        InfrastructureError: it cannot be written, or something has that name already.
    """
    for file in files:
        if not file.is_file():
            raise InputError(f"the attachment {file} is not there")
        try:
            with open(file, "rb") as source, open(scratch / file.name, "xb") as copy:  # x: never through a link
                shutil.copyfileobj(source, copy)
        except OSError as reason:
            raise InfrastructureError(f"the attachment {file} could not be put into the scratch: {reason}") from None


def keep(text: str, scratch: Path) -> str:
    """Write a tool's long result into the scratch; returns the file's name, "" where that cannot be, or is too much."""
    if len(text) > KEPT_CHARS:
        return ""
    for number in range(1, 100):
        name = f"result-{number}.txt"
        try:
            with open(scratch / name, "x", encoding="utf-8", errors="replace") as file:  # x: never through a link
                file.write(text)
            return name
        except FileExistsError:
            continue
        except OSError:
            return ""
    return ""


def remove(folder: Path) -> None:
    """Remove a folder, also where code inside took the permission to."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            if not (Path(parent) / name).is_symlink():
                with suppress(OSError):
                    (Path(parent) / name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def empty(scratch: Path) -> bool:
    """Empty the scratch; False where something in it stays."""
    with suppress(OSError):
        for entry in list(scratch.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)
                remove(entry)
            else:
                entry.unlink()
    return not any(scratch.iterdir())
