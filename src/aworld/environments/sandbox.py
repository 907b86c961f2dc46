"""What keeps a tool process contained: three back ends that each turn a command into a contained one.

None of them is a security boundary against a program that means harm; each says in `gaps` what it leaves open.
Limits are set by util-linux's `prlimit` inside the sandbox, so that no code has to run between fork and exec.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aworld import config as schema
from aworld.errors import InputError

SERVERS = Path(__file__).parent / "servers"
OURS = {"PYTHONPATH": str(Path(__file__).parents[2])}  # this very aworld, also where it is not the installed one
SCRATCH = "/episode"  # where a sandbox with a file system of its own shows the scratch
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")


@dataclass(frozen=True)
class Launch:
    """A process to start: its whole environment is `env`, and it leads a session of its own."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path


class Sandbox(Protocol):
    """A way to contain a process.

    Attributes:
        name: as in `site.sandbox`.
        gaps: what it does not protect, a short phrase each.
        python: the Python interpreter as the contained process sees it; aworld's tool servers are importable there.
    """

    @property
    def name(self) -> str: ...

    @property
    def gaps(self) -> tuple[str, ...]: ...

    @property
    def python(self) -> str: ...

    def launch(
        self,
        argv: Sequence[str],
        scratch: Path,
        read_only: Sequence[Path],
        env: Mapping[str, str],
        limits: schema.Environment,
    ) -> Launch:
        """Contain `argv`: it starts in the scratch, the one place it may write, and sees `read_only` at their paths."""
        ...


# Apptainer changes its credentials, at which Linux forgets a parent-death signal: a shell takes it in its stead, and
# kills what apptainer started, its file system's daemon too, and then apptainer and itself. What a shell starts in the
# background reads nothing, unless from a descriptor such as 3.
END_WITH_PARENT = (
    *("setpriv", "--pdeathsig", "TERM", "--", "sh", "-c"),
    "trap 'kill -KILL $(cat /proc/$!/task/*/children) 0' TERM; exec 3<&0; \"$@\" <&3 3<&- & exec <&- 3<&-; wait $!",
    "sh",
)


@dataclass(frozen=True)
class ApptainerSandbox:
    """A container of the environment image, which brings its own Python and aworld."""

    image: str
    name: str = "apptainer"
    gaps: tuple[str, ...] = (
        "total size of the scratch",
        "memory beyond one process",
        "number of processes",
        "/tmp and /dev/shm outlive a reset",
    )
    python: str = "python3"

    def launch(
        self,
        argv: Sequence[str],
        scratch: Path,
        read_only: Sequence[Path],
        env: Mapping[str, str],
        limits: schema.Environment,
    ) -> Launch:
        binds = [f"{scratch}:{SCRATCH}:rw", *(f"{path}:{path}:ro" for path in read_only)]
        command = [
            *END_WITH_PARENT,
            *("apptainer", "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--net", "--network", "none"),
            *("--no-mount", "bind-paths"),
            *(word for bind in binds for word in ("--bind", bind)),
            *("--pwd", SCRATCH, self.image),
            *("env", f"HOME={SCRATCH}"),  # apptainer itself refuses to set it
            *_limited(limits),
            *argv,
        ]
        # the prefixed variables, not --env: that one splits values at commas
        inside = {
            f"APPTAINERENV_{key}": value
            for key, value in _environment(SCRATCH, env).items()
            if key not in ("PATH", "HOME")
        }
        # apptainer itself looks for its configuration in the user's home; nothing of it reaches the container
        outside = {"PATH": os.environ.get("PATH", SYSTEM_PATH), "HOME": str(Path.home())}
        return Launch(command, outside | inside, scratch)


@dataclass(frozen=True)
class BubblewrapSandbox:
    """Fresh namespaces around this machine's /usr and this Python: no network, no home, one writable folder."""

    name: str = "bubblewrap"
    gaps: tuple[str, ...] = ("total size of the scratch", "memory beyond one process")
    python: str = sys.executable

    def launch(
        self,
        argv: Sequence[str],
        scratch: Path,
        read_only: Sequence[Path],
        env: Mapping[str, str],
        limits: schema.Environment,
    ) -> Launch:
        runtime = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1]), str(SERVERS)}
        seen = [*sorted(runtime - {"/usr"}), *(str(path) for path in read_only)]
        command = [
            *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
            *(word for path in SYSTEM_FOLDERS for word in ("--ro-bind-try", path, path)),
            *(word for path in SYSTEM_FILES for word in ("--ro-bind-try", path, path)),
            *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
            *(word for path in seen for word in ("--ro-bind", path, path)),
            *("--bind", str(scratch), SCRATCH, "--chdir", SCRATCH),
            # bubblewrap's own tmpfs would be writable, uncapped, and kept from one episode to the next
            *("--remount-ro", "/dev", "--remount-ro", "/tmp", "--remount-ro", "/"),
            *(word for item in _environment(SCRATCH, OURS | dict(env)).items() for word in ("--setenv", *item)),
            *_limited(limits, processes=256 if _counts_processes_per_namespace() else None),
            *argv,
        ]
        return Launch(command, {"PATH": os.environ.get("PATH", SYSTEM_PATH)}, scratch)


@dataclass(frozen=True)
class SubprocessSandbox:
    """Limits, a clean environment and a folder of its own: against accidents only, for where nothing else works."""

    name: str = "subprocess"
    gaps: tuple[str, ...] = (
        "files of this user outside the scratch",
        "network",
        "other processes of this user",
        "number of processes",
        "total size of the scratch",
        "memory beyond one process",
    )
    python: str = sys.executable

    def launch(
        self,
        argv: Sequence[str],
        scratch: Path,
        read_only: Sequence[Path],
        env: Mapping[str, str],
        limits: schema.Environment,
    ) -> Launch:
        command = ["setpriv", "--pdeathsig", "KILL", "--", *_limited(limits), *argv]
        return Launch(command, _environment(str(scratch), OURS | dict(env)), scratch)


def choose(name: str, image: str) -> Sandbox:
    """The sandbox of `site.sandbox`; `auto` takes the tightest that works here.

    Raises:
        InputError: the name is unknown, or what it needs is not there.
    """
    if name == "subprocess":
        return SubprocessSandbox()
    reason = ""
    if name in ("auto", "apptainer"):
        reason = _apptainer_missing(image)
        if not reason:
            return ApptainerSandbox(image)
    if name in ("auto", "bubblewrap"):
        reason = _bubblewrap_missing()
        if not reason:
            return BubblewrapSandbox()
    if name == "auto":
        return SubprocessSandbox()
    if not reason:
        raise InputError(f"site.sandbox={name}: no such sandbox; valid: auto, apptainer, bubblewrap, subprocess")
    raise InputError(f"site.sandbox={name}: {reason}")


def _apptainer_missing(image: str) -> str:
    if shutil.which("apptainer") is None:
        return "no apptainer on PATH; load its module, or set site.sandbox=auto"
    if not Path(image).is_file():
        return f"no image at site.images.environment='{image}'; set it to an image that holds Python and aworld"
    return ""


def _bubblewrap_missing() -> str:
    """Start the very command that episodes will use: a kernel or a site may forbid user namespaces."""
    if shutil.which("bwrap") is None:
        return "no bwrap on PATH; install bubblewrap, or set site.sandbox=auto"
    sandbox = BubblewrapSandbox()
    with tempfile.TemporaryDirectory() as scratch:
        launch = sandbox.launch([sandbox.python, "-c", "pass"], Path(scratch), [], {}, schema.Environment())
        probe = subprocess.run(launch.argv, env=launch.env, capture_output=True, text=True, timeout=60, check=False)
    if probe.returncode == 0:
        return ""
    lines = probe.stderr.strip().splitlines() or [f"exit status {probe.returncode}"]
    return f"bwrap does not work here ({lines[-1]}); set site.sandbox=auto or subprocess"


def _environment(home: str, env: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a contained process: nothing of ours is passed on."""
    fixed = {"PATH": SYSTEM_PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    # one thread: a pool of threads per core can exceed the address space alone
    return {**fixed, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **env}


def _limited(limits: schema.Environment, processes: int | None = None) -> list[str]:
    command = ["prlimit", f"--as={limits.memory_mb << 20}", f"--fsize={limits.scratch_mb << 20}", "--core=0"]
    return [*command, *([f"--nproc={processes}"] if processes else []), "--"]


def _counts_processes_per_namespace() -> bool:
    """Before Linux 5.14 RLIMIT_NPROC counts all of the user's threads on the node, vLLM's too."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (5, 14)
