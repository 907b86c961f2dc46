"""Caches of compilers, on this node, warmed from an archive in the run directory.

Triton, Inductor and vLLM compile kernels at their start, and keep them in the home by default. On a network file system
that is slow, and processes of many nodes disturb each other there. Here each node has a folder of its own. The first
process that has started well puts what it compiled into one archive; a node without the folder begins with that.
"""

import hashlib
import importlib.metadata
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aworld.nodelocal import private_folder
from aworld.publish import begin_folder, publishing, sweep

VARIABLES = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor", "VLLM_CACHE_ROOT": "vllm"}
GPUS = Path("/proc/driver/nvidia/gpus")


def key(name: str, image: str, distributions: Sequence[str], *parts: str) -> str:
    """The name of a cache: compiled code fits one model, one version of the programs, and one type of GPU.

    Args:
        name: of the program.
        image: in which it runs; "" where it runs in this Python, whose versions of `distributions` are looked up then.
        parts: what its code depends on beside them.
    """
    if image:
        status = Path(image).stat()
        versions = [f"{Path(image).name} {status.st_size} {status.st_mtime_ns}"]
    else:
        found = [each for name in distributions for each in importlib.metadata.distributions(name=name)]
        versions = [f"{each.name} {each.version}" for each in found]
    models = [line for path in sorted(GPUS.glob("*/information")) for line in path.read_text().splitlines()[:1]]
    digest = hashlib.sha256("\n".join([*versions, *parts, *sorted(set(models))]).encode()).hexdigest()[:16]
    return f"{name}-{digest}"


def folder_of(name: str, scratch: str) -> Path | None:
    """This node's folder of a cache, in `scratch` or else TMPDIR; None, with a warning, where it cannot be had."""
    root = Path(scratch or tempfile.gettempdir()) / f"aworld-{os.getuid()}"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (root, root / "caches"):
            private_folder(folder)
    except OSError as reason:
        print(f"warning: no folder for compiled code in {root}: {reason.strerror}", file=sys.stderr, flush=True)
        return None
    return root / "caches" / name


def warm(folder: Path, archive: Path) -> dict[str, str]:
    """Make the cache's folder, from the archive where there is one; returns the variables that name it.

    Those that are set already, as by `site.environment`, are left out. A folder that is there is left as it is. Of
    several processes that make it at once, one is the first.
    """
    if not folder.exists():
        sweep(folder.parent)
        made = begin_folder(folder)
        try:
            if archive.exists():
                with tarfile.open(archive) as tar:
                    tar.extractall(made, filter="data")
        except (OSError, tarfile.TarError) as reason:  # the code is compiled again
            print(f"warning: {archive} cannot be unpacked: {reason}", file=sys.stderr, flush=True)
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(exist_ok=True)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(made, ignore_errors=True)
    for name in VARIABLES.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {variable: str(folder / name) for variable, name in VARIABLES.items() if variable not in os.environ}


def forget(folder: Path, archive: Path) -> None:
    """Remove the cache and its archive: a program that does not start may have found a broken file there."""
    archive.unlink(missing_ok=True)
    broken = begin_folder(folder)
    with suppress(OSError):  # another process was faster
        folder.rename(broken)
    shutil.rmtree(broken, ignore_errors=True)


def keep(folder: Path, archive: Path) -> None:
    """Put the cache into the archive, unless there is one, or nothing was compiled. A failure is only a warning."""
    if archive.exists() or not any(path.is_file() for path in folder.rglob("*")):
        return
    try:
        with publishing(archive) as temporary, tarfile.open(temporary, "w") as tar:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.suffix != ".lock":
                    tar.add(path, str(path.relative_to(folder)))
    except OSError as reason:  # the run goes on without
        print(f"warning: {archive} could not be written: {reason}", file=sys.stderr, flush=True)
