"""How a program of ours runs inside an Apptainer image: the same paths, the same network, the GPUs that are there.

The host's environment is passed on, but for PATH, PYTHONPATH and HOME. PATH is the image's. HOME is a folder in /tmp:
the container has no home, and vLLM and Triton keep caches there unless told otherwise (VLLM_CACHE_ROOT, …).
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from aworld.config import Site
from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import private_folder
from aworld.publish import publishing
from aworld.rundir import RunDir

SOURCE = Path(__file__).parent  # this very aworld, also where it is not the installed one
PACKAGES = "/opt/aworld"  # SOURCE inside, without the packages beside it: the host may have another torch there
GPU_DRIVER = Path("/dev/nvidiactl")
# Apptainer unblocks the signals that Slurm sends to every process of a job, and passes them on to its program.
DEAF = ("env", "--ignore-signal=USR1", "--ignore-signal=USR2")


def container_command(site: Site, image: str, argv: list[str], binds: Sequence[Path]) -> list[str]:
    """The command line that runs `argv` in `image`; `argv` itself where there is no image.

    Apptainer drops a parent-death signal: a program that has to end with its starter calls `die_with_starter`.

    Args:
        argv: a command of this Python.
        binds: folders that the program needs, such as `container_binds(run)`; the site's own are added.

    Raises:
        InputError: there is no apptainer, or it cannot bind a folder of that name.
        InfrastructureError: another user of this node made the folder that is to be HOME.
    """
    if not image:
        return argv
    if reason := no_apptainer():
        raise InputError(f"{image} is to be run: {reason}")
    local = [Path(path) for path in (site.scratch, os.environ.get("TMPDIR", "")) if path]
    seen = [*binds, *(path for path in local if path.is_dir())]
    environment = {"PYTHONPATH": PACKAGES}
    if site.bind_python:
        # A Python in /usr is the image's own: the two have to be of one version.
        prefixes = [path for path in (sys.prefix, sys.base_prefix) if path != "/usr"]
        seen += [Path(path) for path in prefixes]
        environment["LD_LIBRARY_PATH"] = ":".join(f"{path}/lib" for path in reversed(prefixes))
    else:
        argv = ["python3" if word == sys.executable else word for word in argv]
    all_binds = [*(bind for path in seen for bind in _bind(path)), *site.binds]
    return [
        *("apptainer", "--quiet", "exec", "--no-home"),
        *(("--nv",) if GPU_DRIVER.exists() else ()),
        *("--bind", f"{SOURCE}:{PACKAGES}/aworld:ro"),
        *(word for bind in dict.fromkeys(all_binds) for word in ("--bind", bind)),
        *(word for item in environment.items() for word in ("--env", "=".join(item))),
        image,
        *DEAF,
        f"HOME={_home()}",  # apptainer itself refuses to set it
        *argv,
    ]


def _home() -> Path:
    """The folder that is HOME inside. Programs keep compiled kernels there, and run them the next time."""
    try:
        return private_folder(Path(f"/tmp/aworld-{os.getuid()}"))
    except PermissionError as reason:
        raise InfrastructureError(f"{reason.filename} is to be a home: {reason.strerror}; remove it") from None


def no_apptainer() -> str:
    """Why no image can be run on this machine, with the mend; "" where one can."""
    there = shutil.which("apptainer")
    return "" if there else "no apptainer on PATH; load its module, or install it with scripts/apptainer.sh"


def _bind(path: Path) -> list[str]:
    """The binds of a folder at its real path and at the given one. Links inside a run name real paths.

    Raises:
        InputError: Apptainer cannot bind a path of that name.
    """
    called = Path.cwd() / path
    for place in (called, path.resolve()):
        if any(mark in str(place) for mark in ":,"):
            raise InputError(f"{place} holds a colon or a comma, which Apptainer cannot bind; rename it")
    linked = [f"{path.resolve()}:{called}"] if called != path.resolve() else []
    return [str(path.resolve()), *linked]


def container_binds(run: RunDir) -> list[Path]:
    """The folders that a program needs to work on a run: the run's own, and the model's that `base` links to."""
    return [run.root, *(linked_folders(run.base) if run.base.is_dir() else ())]


def linked_folders(folder: Path) -> list[Path]:
    """The folders that the links in a folder lead to, such as `blobs` of Hugging Face's cache."""
    return sorted({link.resolve().parent for link in folder.iterdir() if link.is_symlink()})


def staged_image(image: str, scratch: str) -> str:
    """The path of a copy of `image` in the node-local folder `scratch`; the first process of a node makes the copy.

    Its name holds size and time of the image, so that a new image is a new copy. `image` itself is returned where there
    is no scratch; and, with a warning, where the copy cannot be made or another user could have made it.
    """
    if not (image and scratch):
        return image
    owned = Path(scratch) / f"aworld-{os.getuid()}"
    folder = owned / "images"
    with open(image, "rb") as source:
        status = os.fstat(source.fileno())
        copy = folder / f"{Path(image).stem}-{status.st_size:x}-{status.st_mtime_ns:x}.sif"
        try:
            owned.parent.mkdir(parents=True, exist_ok=True)
            for each in (owned, folder):
                private_folder(each)
            with open(copy.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not copy.exists():
                    for torn in folder.glob(f".{copy.name}.tmp-*"):  # its writer was killed: the lock is ours
                        torn.unlink()
                    with publishing(copy) as temporary, open(temporary, "wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        except OSError as reason:
            where = reason.filename or scratch
            print(f"warning: {image} is used where it is; no copy in {where}: {reason.strerror}", file=sys.stderr)
            return image
    return str(copy)


def sha256(image: Path) -> str:
    """The SHA-256 of an image file, in hexadecimal.

    Raises:
        InputError: there is no such image.
    """
    if not image.is_file():
        raise InputError(f"no image at {image}; build it with: aworld containers build NAME --output {image}")
    with image.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
