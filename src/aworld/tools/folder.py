"""`list_files`, `write_file`, `pack`, `unpack`: the working folder. No path leads out of it, in an archive neither."""

import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

from aworld.tools.common.paths import inside
from aworld.tools.common.result import Result, error, text
from aworld.tools.common.server import ToolServer

MAX_LISTED = 200
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PACKED = (".zip", ".tar", ".tar.gz", ".tgz")


def list_files(path: str = ".") -> Result:
    try:
        folder = inside(path)
        if not folder.is_dir():
            return error(f"no folder {path[:100]!r}")
        found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        lines = [f"{file.stat().st_size}\t{file.relative_to(Path.cwd().resolve())}" for file in found[:MAX_LISTED]]
    except (OSError, ValueError) as reason:
        return error(str(reason))
    more = [f"… and {len(found) - MAX_LISTED} more"] if len(found) > MAX_LISTED else []
    return text("\n".join(["bytes\tname", *lines, *more]) if found else "(no files)")


def write_file(path: str, content: str) -> Result:
    try:
        file = inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, "utf-8")
    except (OSError, ValueError) as reason:
        return error(f"cannot write {path[:100]!r}: {reason}")
    return text(f"wrote {file.stat().st_size} bytes to {path}")


def unpack(path: str, into: str = ".") -> Result:
    try:
        file, folder = inside(path), inside(into)
        if not file.is_file():
            return error(f"no file {path[:100]!r}")
        if not file.name.lower().endswith(ARCHIVES):
            return error(f"{path} is none of {', '.join(ARCHIVES)}")
        if file.suffix.lower() == ".zip":
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                archive.extractall(folder)  # takes .. and absolute paths for relative ones
        else:
            with tarfile.open(file) as tar:
                names = tar.getnames()
                tar.extractall(folder, filter="data")  # refuses links and paths that lead out, and devices
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, EOFError) as reason:
        return error(f"cannot unpack {path[:100]!r}: {str(reason).splitlines()[0]}")
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return text(f"{len(names)} entries: {shown}")


def pack(path: str, archive: str) -> Result:
    try:
        source, target = inside(path), inside(archive)
        if target.suffix.lower() == ".gz" and not target.name.lower().endswith(".tar.gz"):
            target = target.with_suffix(".tar.gz")  # gzip alone holds neither names nor folders
        if not target.name.lower().endswith(PACKED):
            return error(f"{archive} is none of {', '.join(PACKED)}")
        if source == target:
            return error(f"{archive} cannot hold itself")
        if not source.exists():
            return error(f"no {path[:100]!r}")
        size = _pack(source, target)
    except (OSError, ValueError) as reason:
        return error(f"cannot pack {path[:100]!r}: {reason}")
    return text(f"{size} bytes in {target.relative_to(Path.cwd().resolve())}")


def _pack(source: Path, target: Path) -> int:
    """Write an archive, all of it or none; returns its size.

    It may lie in the folder that it holds, as all that a sandbox can write to lies in one: so what goes in is settled
    before it is begun.

    Raises:
        OSError, ValueError: something cannot be read, or the archive not written.
    """
    members = [one for one in (source, *sorted(source.rglob("*"))) if one != target]
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".pack-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            if target.suffix.lower() == ".zip":
                with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
                    for one in members:
                        if one.is_file() or one.is_dir():  # a pipe would be waited for
                            archive.write(one, one.relative_to(source.parent))
            else:
                with tarfile.open(fileobj=file, mode="w" if target.suffix.lower() == ".tar" else "w:gz") as tar:
                    for one in members:
                        tar.add(one, one.relative_to(source.parent), recursive=False)
        Path(name).chmod(0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink()
        raise
    return target.stat().st_size


def add_to(server: ToolServer) -> None:
    for tool, description in (
        (list_files, "List the files of a folder."),
        (write_file, "Write a text file."),
        (unpack, "Unpack a zip or tar file."),
        (pack, "Pack a file or folder into a zip or tar file."),
    ):
        server.add_tool(tool, description=description)


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["folder"])
