"""Folders on this node that go with their process, at the latest when the next one makes its own."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aworld.processes import try_to_hold


@contextmanager
def own_folder(root: Path, name: str) -> Iterator[Path]:
    """A new folder `aworld-NAME-*` in `root`, only this user's; those that the dead left there are removed first."""
    held = f"held-{os.uname().nodename}"  # `root` may be shared, and a lock hold on its node alone
    for left in root.glob(f"aworld-{name}-*/{held}"):
        with suppress(OSError), open(left) as f:  # a living process's, another user's, or locks are not to be had
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(left.parent)
    folder = Path(tempfile.mkdtemp(prefix=f"aworld-{name}-", dir=root)).resolve()
    with try_to_hold(folder / "new"):
        (folder / "new").rename(folder / held)  # from here on it is known, and held already
        try:
            yield folder
        finally:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder, also where code inside took the permission to."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            if not (Path(parent) / name).is_symlink():
                with suppress(OSError):
                    (Path(parent) / name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
