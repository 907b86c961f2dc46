"""The container of a task that brings an image of its own: a writable layer on top of the image, for one episode.

The image needs no Python: the tools run by the worker's own, with its libraries and its loader, bound at /aworld. What
the agent changes goes into `layer` of the episode's folder. A later container on the same layer sees it, and no process
of an earlier one.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aworld import config as schema
from aworld.containers import no_apptainer
from aworld.environments.sandbox import REAPED, SCRATCH, SYSTEM_PATH, TOOLS, Launch
from aworld.environments.settings import IN_ANY_IMAGE, check_for_images
from aworld.errors import InputError
from aworld.tasks.task import Container

LAYER, SCRATCH_FOLDER = "layer", "scratch"  # in the folder of an episode
PREFIX, LIBRARIES, OURS = "/aworld/prefix", "/aworld/lib{}", "/aworld/ours"  # inside
INSIDE = Path(__file__).with_name("inside.py")
SERVE = f"import sys; sys.path.append({OURS!r}); from aworld.tools.__main__ import serve; serve(sys.argv[1:])"


def prepare(folder: Path) -> Path:
    """Make the folders of an episode in `folder`; returns the scratch, which the container shows at /episode.

    Raises:
        InputError: there is no Apptainer here.
    """
    if reason := no_apptainer():
        raise InputError(f"the tasks bring images: {reason}")
    (folder / LAYER).mkdir()
    (folder / SCRATCH_FOLDER).mkdir()
    return folder / SCRATCH_FOLDER


def server_of(config: schema.Environment) -> list[str]:
    """The command of the tool server inside.

    Raises:
        InputError: as `settings.check_for_images`.
    """
    check_for_images(config)
    return [*_python().command, "-c", SERVE, *(name for name in IN_ANY_IMAGE if name in config.servers)]


def launch(
    container: Container,
    folder: Path,
    argv: Sequence[str],
    limits: schema.Environment,
    env: Mapping[str, str] | None = None,
    binds: Mapping[Path, str] | None = None,
) -> Launch:
    """Run `argv` in the image, in its working folder, as root of a user namespace, and without a network.

    Args:
        folder: of the episode, as `prepare` made it. One container at a time works in it.
        env: variables besides the image's and the container's own.
        binds: folders that are seen writable, by their places inside.
    """
    python = _python()
    seen = [f"{here}:{inside}:ro" for here, inside in python.binds.items()]
    seen += [f"{here}:{inside}" for here, inside in {folder / SCRATCH_FOLDER: SCRATCH, **(binds or {})}.items()]
    command = [
        *REAPED,
        *("apptainer", "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--net", "--network", "none"),
        *("--no-mount", "bind-paths,tmp", "--no-privs", "--overlay", str(folder / LAYER)),
        # files of an image belong to its root; without subordinate ids, which few sites give
        *(("--fakeroot", "--ignore-subuid", "--ignore-fakeroot-command") if os.geteuid() else ()),
        *(word for bind in seen for word in ("--bind", bind)),
        *("--pwd", container.workdir, str(container.image)),
        *(*python.command, python.inside, str(limits.memory_mb << 20), str(limits.scratch_mb << 20)),
        *argv,
    ]
    inside = {"LANG": "C.UTF-8", **container.env, **(env or {})}
    variables = {f"APPTAINERENV_{key}": value for key, value in inside.items()}
    outside = {"PATH": os.environ.get("PATH", SYSTEM_PATH), "HOME": str(Path.home())}
    return Launch(command, outside | variables, folder)


@dataclass(frozen=True)
class Python:
    """The worker's Python inside any image.

    Attributes:
        binds: what it needs of this machine, by places inside.
        command: it is started so, whatever libraries the image has.
        inside: the place of `inside.py`.
    """

    binds: dict[Path, str]
    command: tuple[str, ...]
    inside: str = "/aworld/inside.py"


@cache
def _python() -> Python:
    """
    Raises:
        InputError: this process has no C library of its own, as one that is linked statically.
    """
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = {Path(line.split(maxsplit=5)[-1]) for line in maps if ".so" in line}
    loader, libc = (
        next((path for path in mapped if path.name.startswith(names)), None)
        for names in (("ld-",), ("libc.so", "libc-"))
    )
    if loader is None or libc is None:
        raise InputError("this Python has no dynamic C library, which the images of tasks need; use another Python")
    prefix = Path(sys.base_prefix).resolve()
    folders = {folder: LIBRARIES.format(number) for number, folder in enumerate(sorted({libc.parent, loader.parent}))}
    binds = {prefix: PREFIX, INSIDE: Python.inside, TOOLS: f"{OURS}/aworld/tools", **folders}
    program = Path(sys._base_executable).resolve().relative_to(prefix)  # type: ignore[attr-defined]
    libraries = ":".join([f"{PREFIX}/lib", *folders.values()])
    command = (f"{folders[loader.parent]}/{loader.name}", "--inhibit-cache", "--library-path", libraries)
    return Python(binds, (*command, f"{PREFIX}/{program}", "-I", "-S"))
