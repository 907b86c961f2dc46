"""How a program of ours runs inside an Apptainer image: the same paths, the same network, the GPUs that are there.

The host's environment is passed on, but for PATH, PYTHONPATH and HOME. PATH is the image's. HOME is a folder in /tmp:
no home is in the container, and vLLM and Triton keep caches there unless told otherwise (VLLM_CACHE_ROOT, …).
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import private_folder
from aworld.publish import publishing
from aworld.rundir import RunDir
from aworld.site import Site

SOURCE = Path(__file__).parent  # this very aworld, also where it is not the installed one
PACKAGES = "/opt/aworld"  # where it is seen: alone, for beside it the host may have another torch
GPU_DRIVER = Path("/dev/nvidiactl")
# Apptainer unblocks the signals that Slurm sends to every process of a job, and passes them on to the one it runs.
DEAF = ("env", "--ignore-signal=USR1", "--ignore-signal=USR2")


def container_command(site: Site, image: str, argv: list[str], binds: Sequence[Path]) -> list[str]:
    """`argv`, a command of this Python, as it runs in `image`; unchanged where there is no image.

    Apptainer drops a parent-death signal: what has to end with its starter calls `processes.die_with_starter`.

    Args:
        binds: folders it needs, such as `container_binds(run)`; the site's own are added.

    Raises:
        InputError: there is no apptainer, or a folder's name is one that it cannot bind.
        InfrastructureError: another user of this node has taken the place of its home.
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
    """Programs keep compiled kernels there, and run them the next time."""
    try:
        return private_folder(Path(f"/tmp/aworld-{os.getuid()}"))
    except PermissionError as reason:
        raise InfrastructureError(f"{reason.filename} is to be a home: {reason.strerror}; remove it") from None


def no_apptainer() -> str:
    """Why no image can be run from here, with the mend; "" where it can."""
    there = shutil.which("apptainer")
    return "" if there else "no apptainer on PATH; load its module, or install it with scripts/apptainer.sh"


def _bind(path: Path) -> list[str]:
    """At the path it is called by and at its real one: links inside a run name the real one."""
    called = Path.cwd() / path
    for place in (called, path.resolve()):
        if any(mark in str(place) for mark in ":,"):
            raise InputError(f"{place} holds a colon or a comma, which Apptainer cannot bind; rename it")
    linked = [f"{path.resolve()}:{called}"] if called != path.resolve() else []
    return [str(path.resolve()), *linked]


def container_binds(run: RunDir) -> list[Path]:
    """What a program that works on a run has to see: its folder, and the model's own that `base` links to."""
    links = run.base.iterdir() if run.base.is_dir() else ()
    return [run.root, *sorted({link.resolve().parent for link in links if link.is_symlink()})]


def staged_image(image: str, scratch: str) -> str:
    """The copy of `image` in the node-local folder `scratch`, made by the first process of the node that asks.

    A copy's name holds size and time of the image, so that a new image is a new copy. Unchanged where there is no image
    or no scratch. A copy that cannot be made, or that others could have made, costs a warning; the shared file serves.
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
    """
    Raises:
        InputError: there is no such image.
    """
    if not image.is_file():
        raise InputError(f"no image at {image}; build it with: aworld containers build NAME --output {image}")
    with image.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
