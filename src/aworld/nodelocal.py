"""Folders on this node that are removed with their process, at the latest when the next process makes its own."""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aworld.locks import acquire, try_to_hold


def private_folder(path: Path) -> Path:
    """Make a folder in a place where other users write too, or take the one that is there. Returns its path.

    Raises:
        PermissionError: it is no folder, another user made it, or others may write to it: they could have put anything
            there.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(path):
        raise PermissionError(errno.EPERM, "another user owns it, or others may write to it", str(path))
    return path


def _is_private(path: Path) -> bool:
    status = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & others


@contextmanager
def own_folder(root: Path, name: str) -> Iterator[Path]:
    """A new folder `aworld-NAME-*` in `root`, private to this user. Folders of ended processes are removed first."""
    held = f"held-{os.uname().nodename}"  # `root` may be shared, and its locks may hold on one node only
    for left in root.glob(f"aworld-{name}-*/{held}"):
        with suppress(OSError):  # another process removed it just now
            if _is_private(left.parent):  # another user's could be a trap: a pipe to wait at, a link to follow
                with open(left, "r+") as f:  # NFS locks exclusively only what may be written
                    if acquire(f, fcntl.LOCK_EX) == "acquired":
                        remove(left.parent)
    folder = Path(tempfile.mkdtemp(prefix=f"aworld-{name}-", dir=root)).resolve()
    with try_to_hold(folder / "new"):
        (folder / "new").rename(folder / held)  # under this name others look for it, and it is held already
        try:
            yield folder
        finally:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder, also where a program inside took away the permissions of its subfolders."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            if not (Path(parent) / name).is_symlink():
                with suppress(OSError):
                    (Path(parent) / name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
