"""Files of the working folder, for servers outside its sandbox.

Untrusted code may change files and links there at any time, even while one is being opened. So each step of a path is
taken from the folder before it, no link is followed, and only plain files are read: no other of this user's.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path

MOST = 25 << 20  # bytes of a file
SANDBOX = Path("/episode")  # what the sandbox calls the working folder
SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # nonblocking: a pipe has no end


class NoFileError(Exception):
    """Why there is no such file, in one line."""


def read(path: str, folder: Path | None = None) -> bytes:
    """The content of a file of `folder`, else of the working folder.

    Raises:
        NoFileError: it is not there, no plain file, outside of the folder, or too large.
    """
    folder = Path.cwd() if folder is None else folder
    try:
        *parents, name = _inside(path, folder).parts or [""]
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for parent in parents:
                below = os.open(parent, SAFELY | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            found = os.open(name, SAFELY, dir_fd=at)
        finally:
            os.close(at)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise NoFileError(f"{path[:100]!r} is no plain file")
        with open(found, "rb") as file:
            content = file.read(MOST + 1)
    except (OSError, ValueError) as reason:  # ValueError: a NUL or half a surrogate pair in the path
        linked = isinstance(reason, OSError) and reason.errno == errno.ELOOP
        why = "links are not followed" if linked else getattr(reason, "strerror", None) or str(reason)
        raise NoFileError(f"cannot read {path[:100]!r}: {why}") from None
    if len(content) > MOST:
        raise NoFileError(f"{path[:100]!r} is larger than {MOST >> 20} MB; take a part of it with python")
    return content


def digest(path: str, folder: Path | None = None) -> str:
    """The SHA-256 of a file's content.

    Raises:
        NoFileError: as `read` does.
    """
    return hashlib.sha256(read(path, folder)).hexdigest()


def _inside(path: str, folder: Path) -> Path:
    """The path from the folder on, by its words alone.

    Raises:
        ValueError: it leads out.
    """
    plain = Path(os.path.normpath(path))
    for root in (folder.absolute(), SANDBOX):
        if plain.is_relative_to(root):
            return plain.relative_to(root)
    if plain.is_absolute() or ".." in plain.parts:
        raise ValueError("it is outside the working folder")
    return plain
