"""Folders that contained code may write to. It may have planted links in them, or taken permissions from itself."""

import math
import shutil
from contextlib import suppress
from pathlib import Path

from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import remove

KEPT_CHARS = 1_000_000


def megabytes(files: tuple[Path, ...]) -> int:
    """MB that copies of these attachments take, each rounded up.

    Raises:
        InputError: a file is not there.
    """
    if gone := [file for file in files if not file.is_file()]:
        raise InputError(f"the attachment {gone[0]} is not there")
    return sum(math.ceil(file.stat().st_size / (1 << 20)) for file in files)


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
    """Write a tool's long result into the scratch; returns its name, "" if it is too large or cannot be written."""
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


def move(scratch: Path, folder: Path) -> None:
    """Move all files of the scratch into a folder on the same disk. A file that cannot be moved stays.

    What an earlier try left in the folder is removed.
    """
    empty(folder)
    scratch.chmod(0o700)
    for entry in list(scratch.iterdir()):
        with suppress(OSError):
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)  # else a folder that its owner may not write cannot get another parent
            entry.rename(folder / entry.name)


def empty(scratch: Path) -> bool:
    """Empty the scratch; False where something in it stays."""
    with suppress(OSError):
        scratch.chmod(0o700)
        for entry in list(scratch.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)
                remove(entry)
            else:
                entry.unlink()
    return not any(scratch.iterdir())
