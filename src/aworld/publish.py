"""How a file or folder gets to disk: whole, or not at all.

A published file is written under a temporary name, fsynced and renamed. A published folder is marked complete after
that. A reader that waits for the mark never sees a torn file, and a writer that died is simply run again.
"""

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aworld.errors import InfrastructureError

MARK = "COMPLETE"
Sums = Mapping[str, dict[str, int]]  # by the name of a file in a folder: its `size` in bytes, and its `crc32`
SEEN_SECONDS = 300.0  # after so long each node sees what another one wrote
IDLE_SECONDS = 1800.0  # a writer that wrote nothing for so long has ended, also on a slow file system


def fsync_dir(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_file(path: Path) -> None:
    with open(path, "rb") as f:
        os.fsync(f.fileno())


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.uname().nodename}-{os.getpid()}")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file; on a clean exit it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        _fsync_file(temporary)
        os.replace(temporary, path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    with publishing(path) as temporary:
        temporary.write_text(text)


def publish_json(path: Path, value: Any) -> None:
    publish_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def publish_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Publish the folder that `fill` writes as `path`, complete. Does nothing where `path` is complete already."""
    if is_complete(path):
        return
    temporary = begin_folder(path)
    try:
        fill(temporary)
        finish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def begin_folder(path: Path) -> Path:
    """An empty temporary folder beside `path`, to be filled for `finish_folder`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def finish_folder(temporary: Path, path: Path, known: Sums | None = None) -> None:
    """Make a filled folder durable, rename it to `path` and mark it complete.

    Args:
        known: of files that are durable already; they are not read. Other nodes may have written them.

    Raises:
        InfrastructureError: this node does not see one of them.
    """
    known = known or {}
    give_up = time.monotonic() + SEEN_SECONDS
    while missing := [name for name in known if not (temporary / name).is_file()]:
        if time.monotonic() > give_up:
            raise InfrastructureError(
                f"{temporary} lacks {', '.join(missing[:3])}, which other ranks wrote; see whether all nodes share "
                "this file system, then run the same command again"
            )
        time.sleep(0.2)
    for file in temporary.rglob("*"):
        if file.is_file() and str(file.relative_to(temporary)) not in known:
            _fsync_file(file)
        elif file.is_dir():
            fsync_dir(file)
    fsync_dir(temporary)
    shutil.rmtree(path, ignore_errors=True)  # an unmarked folder: its writer died before the mark
    os.replace(temporary, path)
    fsync_dir(path.parent)
    mark_complete(path, known)


def mark_complete(folder: Path, known: Sums | None = None) -> None:
    """Write the completion mark: the name, size (bytes) and CRC-32 of every file in the folder.

    Args:
        known: of files whose writers summed them; the others are read.
    """
    known = known or {}
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MARK}
    others = [name for name in files if name not in known]
    with ThreadPoolExecutor() as threads:
        sums = dict(zip(others, threads.map(lambda name: _checksum(files[name]), others), strict=True))
    vouched = {
        name: known[name] if name in known else {"size": path.stat().st_size, "crc32": sums[name]}
        for name, path in files.items()
    }
    publish_json(folder / MARK, {"files": vouched, "time": time.time()})


def is_complete(folder: Path) -> bool:
    """Whether the mark is there and every file it names has the size it had. Cheap: it reads no other file."""
    try:
        mark = json.loads((folder / MARK).read_text())
        return all((folder / name).stat().st_size == file["size"] for name, file in mark["files"].items())
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False


def marked_files(folder: Path) -> Sums:
    """The files of a complete folder, by its mark.

    Raises:
        FileNotFoundError: there is no mark.
    """
    files: Sums = json.loads((folder / MARK).read_text())["files"]
    return files


def damaged(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """The names of files in a complete folder that changed since it was marked. Reads them, in threads.

    Args:
        names: the files to read; None: all of them.

    Raises:
        FileNotFoundError: there is no mark, or a file is gone.
    """
    files = marked_files(folder)
    looked_at = list(files if names is None else names)
    with ThreadPoolExecutor() as threads:
        sums = threads.map(lambda name: _checksum(folder / name), looked_at)
        return [name for name, found in zip(looked_at, sums, strict=True) if found != files[name]["crc32"]]


def verify(folder: Path) -> None:
    """Check the contents of a complete folder.

    Raises:
        InfrastructureError: a file changed since the folder was marked.
    """
    if wrong := damaged(folder):
        raise InfrastructureError(
            f"{folder} is damaged ({', '.join(wrong)}) and not used; remove the folder, then: aworld resume RUN"
        )


def _checksum(path: Path) -> int:
    value = 0
    with open(path, "rb", buffering=0) as f:
        while block := f.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def discard(path: Path) -> None:
    """Remove a published folder. After a kill in between nothing looks complete: `sweep` removes the rest.

    The folder loses its name first, by one rename; then its mark, then its files. Another process may do the same.
    """
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    with suppress(FileNotFoundError):  # another process removed it just now
        os.replace(path, temporary)
        fsync_dir(path.parent)
        (temporary / MARK).unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove half-written files and folders: those of ended writers on this node, and all that are idle."""
    for stale in folder.glob(".*.tmp-*"):
        node, _, pid = stale.name.rpartition(".tmp-")[2].rpartition("-")
        has_ended = node == os.uname().nodename and not Path(f"/proc/{pid}").exists()
        if not (has_ended or is_idle(stale)):
            continue
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def is_idle(path: Path) -> bool:
    """Whether a file or folder, with all that is in it, was not written for IDLE_SECONDS."""
    newest = 0.0
    inside = (Path(parent) / name for parent, folders, files in os.walk(path) for name in (*folders, *files))
    for each in (path, *inside):
        with suppress(FileNotFoundError):  # it was renamed or removed just now
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest > IDLE_SECONDS


def append_json(path: Path, value: Any) -> None:
    """Append a line to a JSON-lines file, by a single write: lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as f:
        f.write(json.dumps(value).encode() + b"\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; none where the file is missing.

    Torn lines are left out: the last one, or one that another node overwrote where the file system does not append.
    """
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
