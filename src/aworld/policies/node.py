"""Whole copies of a run's policies on this node. Its workers share them, so that a node reads a policy once.

They lie in the node-local folder of the site. One worker makes a copy while the others wait for its lock: from the copy
of an older version and the deltas since, or from the whole policy, in order and verified. A copy that no worker uses is
removed when the next one is made, and when the last worker ends.
"""

import fcntl
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aworld.errors import InfrastructureError, disk_full
from aworld.locks import acquire, hold, try_to_hold
from aworld.nodelocal import private_folder
from aworld.policies.abandoned import note_use
from aworld.policies.folder import contents, deltas_in
from aworld.policies.reading import copy_policy
from aworld.publish import MARK, is_complete, verify
from aworld.rundir import RunDir

SPARE_BYTES = 1 << 28  # left free for others


def _place(scratch: str) -> Path:
    """The node-local folder: the site's `scratch`, or TMPDIR."""
    return Path(scratch or tempfile.gettempdir())


@contextmanager
def on_this_node(run: RunDir, version: int, scratch: str, poll: float = 2.0) -> Iterator[Path]:
    """The HF folder of a complete policy on this node, for as long as it is used.

    Where there is no room, a warning says so. Then it is the run's own folder, as it is; a policy of deltas is made
    whole in the run directory, for this node alone.

    Args:
        poll: seconds between two looks, at most, while another worker makes the copy.

    Raises:
        InfrastructureError: the policy is damaged, or a base of its deltas is gone.
    """
    folder = run.policy(version)
    with ExitStack() as stack:
        try:
            copy = stack.enter_context(_Copies(run, _place(scratch) / f"aworld-{os.getuid()}", poll).use(version))
        except OSError as reason:
            if not is_complete(folder):
                raise InfrastructureError(
                    f"policy {version} was removed meanwhile; run the same command again"
                ) from None
            why = _why(reason, _place(scratch))
            print(f"warning: policy {version} is not copied to this node ({why})", file=sys.stderr, flush=True)
            if deltas_in(folder) is None:
                verify(folder)
                copy = folder
            else:
                copy = stack.enter_context(_in_run(run, version, poll))
        yield copy


@contextmanager
def _in_run(run: RunDir, version: int, poll: float) -> Iterator[Path]:
    copies = run.root / "copies" / os.uname().nodename
    with ExitStack() as stack:
        try:
            copies.parent.mkdir(exist_ok=True)
            note_use(private_folder(copies))
            copy = stack.enter_context(_Copies(run, copies, poll).use(version))
        except OSError as reason:
            raise InfrastructureError(
                f"policy {version}, stored as deltas, cannot be made whole ({_why(reason, copies)}); make room in "
                "site.scratch, or set training.full_policy_every=1"
            ) from None
        yield copy


def _why(reason: OSError, place: Path) -> str:
    return disk_full(reason) or f"{reason.filename or place}: {reason.strerror}"


class _Copies:
    """The copies of a run's policies in a folder of this user."""

    def __init__(self, run: RunDir, owned: Path, poll: float):
        self._run, self._owned, self._poll = run, owned, poll
        self._folder = owned / "policies" / f"{zlib.crc32(bytes(run.root.resolve())):08x}"

    @contextmanager
    def use(self, version: int) -> Iterator[Path]:
        """The copy of a version, made where it is not there yet.

        Raises:
            OSError: there is no room, or the folder cannot be made.
        """
        self._owned.parent.mkdir(parents=True, exist_ok=True)
        private_folder(self._owned)
        self._folder.mkdir(parents=True, exist_ok=True)
        # A policy that is made anew has another mark, and gets another copy.
        mark = zlib.crc32((self._run.policy(version) / MARK).read_bytes())
        copy = self._folder / f"{version:04d}-{mark:08x}"
        with ExitStack() as stack:
            stack.callback(self._leave)  # once `used` is closed
            with hold(self._folder / "lock", self._poll):
                used = stack.enter_context(open(copy.with_suffix(".used"), "a+"))
                if acquire(used, fcntl.LOCK_EX) == "acquired":
                    shutil.rmtree(copy, ignore_errors=True)  # its node failed, perhaps before all of it was on the disk
                if acquire(used, fcntl.LOCK_SH) == "unsupported":
                    raise OSError(0, "its file system has no locks", str(self._folder))
                if not copy.is_dir():
                    self._make(version, copy)
                _remove_unused(self._folder)
            yield copy

    def _leave(self) -> None:
        with try_to_hold(self._folder / "lock") as is_ours:  # else another worker removes it
            if is_ours:
                _remove_unused(self._folder)

    def _make(self, version: int, copy: Path) -> None:
        needed = sum(file["size"] for file in contents(self._run.policy(version)).values()) + SPARE_BYTES
        self._sweep()
        temporary = copy.with_suffix(".part")
        shutil.rmtree(temporary, ignore_errors=True)  # its writer was killed: the lock is ours
        if shutil.disk_usage(self._folder).free < needed:
            _remove_unused(self._folder)
        if (free := shutil.disk_usage(self._folder).free) < needed:
            raise OSError(0, f"{free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB needed", str(self._folder))
        temporary.mkdir()
        try:
            copy_policy(self._run, version, temporary, self._copies())
            temporary.rename(copy)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _copies(self) -> dict[int, Path]:
        """The copies that are there, by version."""
        return {int(path.name.partition("-")[0]): path for path in self._folder.glob("*-*") if not path.suffix}

    def _sweep(self) -> None:
        """Remove what killed workers of this user's other runs left."""
        for lock in self._owned.glob("policies/*/lock"):
            with try_to_hold(lock) as is_ours:
                if is_ours:
                    _remove_unused(lock.parent)


def _remove_unused(folder: Path) -> None:
    """Remove the copies that no process uses. The folder's lock is ours."""
    for path in folder.glob("*.used"):
        with open(path, "r+") as file:  # NFS locks a file exclusively only where it may be written
            if acquire(file, fcntl.LOCK_EX) == "acquired":
                for left in (path.with_suffix(""), path.with_suffix(".part")):
                    shutil.rmtree(left, ignore_errors=True)
                path.unlink()
