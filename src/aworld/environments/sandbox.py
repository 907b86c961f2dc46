"""Sandboxes: three back ends that each turn a command into a contained one.

None of them is a security boundary against a program that attacks the kernel; each says in `gaps` what it leaves open.
Limits are set by util-linux's `prlimit` inside the sandbox, so that no code has to run between fork and exec; the
watchdog limits the sum over all processes and files of a sandbox.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aworld import config as schema
from aworld.containers import DEAF, no_apptainer, staged_image
from aworld.environments.libraries import LIBRARIES
from aworld.errors import InputError

PACKAGE = Path(__file__).parents[1]
TOOLS = PACKAGE / "tools"  # all that a tool server in a sandbox needs of this package
# Outside Apptainer: tools are those of this checkout, and the agent's code may import only the image's libraries.
OURS = {"PYTHONPATH": str(PACKAGE.parent), "AWORLD_LIBRARIES": ":".join(LIBRARIES)}
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
SCRATCH = "/episode"  # where a sandbox with a file system of its own shows the scratch
SOCKET = "/gateway"  # and the gateway's socket
PROBE_SECONDS = 60
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")


@dataclass(frozen=True)
class Contents:
    """The contents of a sandbox.

    Attributes:
        scratch: the working folder, and the one place to write.
        read_only: files and folders that are seen, at their own paths.
        env: environment variables besides the fixed ones.
        socket: of the gateway; AWORLD_GATEWAY tells its path in the sandbox.
    """

    scratch: Path
    limits: schema.Environment
    read_only: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    socket: Path | None = None

    def variables(self, socket: Path | str) -> dict[str, str]:
        """The variables of a sandbox that shows the gateway's socket at this path."""
        return {**self.env, **({"AWORLD_GATEWAY": str(socket)} if self.socket else {})}


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

    def launch(self, argv: Sequence[str], contents: Contents) -> Launch:
        """Contain `argv`: it starts in the scratch."""
        ...


REAPED = (sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py")))


@dataclass(frozen=True)
class ApptainerSandbox:
    """A container of the environment image, which brings its own Python and aworld.

    `--containall` gives namespaces of its own for processes and IPC, and neither the user's home nor the host's /tmp;
    `--cleanenv` and `--no-home` keep out what the first leaves; `--net --network none` gives a network without any
    interface; `--no-mount bind-paths` leaves out what the site's configuration binds into every container;
    `--no-privs` drops all capabilities, where root is the user, and forbids to gain any. Whatever is written to /tmp,
    /var/tmp and /dev/shm goes to the scratch: else it would be memory that is not emptied for the next episode.
    """

    image: str
    name: str = "apptainer"
    gaps: tuple[str, ...] = ("/dev and three files of /etc outlive an episode with environment.reuse=reset",)
    python: str = "python3"

    def launch(self, argv: Sequence[str], contents: Contents) -> Launch:
        binds = [f"{contents.scratch}:{place}:rw" for place in (SCRATCH, *_for_scratch(contents.read_only))]
        binds += [f"{path}:{path}:ro" for path in contents.read_only]
        binds += [f"{contents.socket}:{SOCKET}"] if contents.socket else []
        command = [
            *REAPED,
            *("apptainer", "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--net", "--network", "none"),
            *("--no-mount", "bind-paths", "--no-privs"),
            *(word for bind in binds for word in ("--bind", bind)),
            *("--pwd", SCRATCH, self.image),
            *DEAF,
            f"HOME={SCRATCH}",  # apptainer itself refuses to set it
            *_limited(contents.limits),
            *argv,
        ]
        # the prefixed variables, not --env: that one splits values at commas
        inside = {
            f"APPTAINERENV_{key}": value
            for key, value in _environment(SCRATCH, contents.variables(SOCKET)).items()
            if key not in ("PATH", "HOME")
        }
        # apptainer itself looks for its configuration in the user's home; nothing of it reaches the container
        outside = {"PATH": os.environ.get("PATH", SYSTEM_PATH), "HOME": str(Path.home())}
        return Launch(command, outside | inside, contents.scratch)


@dataclass(frozen=True)
class BubblewrapSandbox:
    """Fresh namespaces around this machine's /usr and this Python: no network, no home, one writable folder."""

    name: str = "bubblewrap"
    gaps: tuple[str, ...] = ()
    python: str = sys.executable

    def launch(self, argv: Sequence[str], contents: Contents) -> Launch:
        runtime = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])}
        seen = [*sorted(runtime - {"/usr"}), str(TOOLS), *(str(path) for path in contents.read_only)]
        variables = _environment(SCRATCH, OURS | contents.variables(SOCKET))
        places = (SCRATCH, *_for_scratch(map(Path, seen)))
        closed = [place for place in TEMPORARY[:2] if place not in places]
        command = [
            *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
            *(word for path in SYSTEM_FOLDERS for word in ("--ro-bind-try", path, path)),
            *(word for path in SYSTEM_FILES for word in ("--ro-bind-try", path, path)),
            *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"),
            *(word for place in places for word in ("--bind", str(contents.scratch), place)),
            *(word for path in seen for word in ("--ro-bind", path, path)),
            *(("--ro-bind", str(contents.socket), SOCKET) if contents.socket else ()),
            # bubblewrap's own tmpfs would be writable, uncapped, and kept from one episode to the next
            *(word for place in ("/dev", *closed, "/") for word in ("--remount-ro", place)),
            *("--chdir", SCRATCH),
            *(word for item in variables.items() for word in ("--setenv", *item)),
            *_limited(contents.limits, per_sandbox=_counts_processes_per_namespace()),
            *argv,
        ]
        return Launch(command, {"PATH": os.environ.get("PATH", SYSTEM_PATH)}, contents.scratch)


@dataclass(frozen=True)
class SubprocessSandbox:
    """Limits, a clean environment and a folder of its own: against accidents only, for where nothing else works."""

    name: str = "subprocess"
    gaps: tuple[str, ...] = ("files of this user", "network", "other processes of this user", "GPUs")
    python: str = sys.executable

    def launch(self, argv: Sequence[str], contents: Contents) -> Launch:
        as_root = ("--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
        command = [*REAPED, "setpriv", "--no-new-privs", *as_root, "--", *_limited(contents.limits), *argv]
        variables = OURS | contents.variables(contents.socket or "")
        return Launch(command, _environment(str(contents.scratch), variables), contents.scratch)


def sandbox_of(config: schema.Config) -> Sandbox:
    """The sandbox of a site, with this node's copy of its image. Raises InputError as `choose`."""
    return choose(config.site.sandbox, staged_image(config.site.images.environment, config.site.scratch))


def choose(name: str, image: str) -> Sandbox:
    """The sandbox of `site.sandbox`; `auto` is Apptainer where an image is named, else the tightest that works here.

    Raises:
        InputError: the name is unknown, or the sandbox does not work here. An image that is named and cannot be used is
            an error: it is never replaced by a weaker sandbox.
    """
    kind = "apptainer" if name == "auto" and image else name
    if kind == "subprocess":
        return SubprocessSandbox()
    reason = ""
    if kind == "apptainer":
        reason = _apptainer_missing(image)
        if not reason:
            return ApptainerSandbox(str(Path(image).absolute()))  # it is started in the scratch
    if kind in ("auto", "bubblewrap"):
        reason = _bubblewrap_missing()
        if not reason:
            return BubblewrapSandbox()
    if kind == "auto":
        return SubprocessSandbox()
    if not reason:
        raise InputError(f"site.sandbox={name}: no such sandbox; valid: auto, apptainer, bubblewrap, subprocess")
    raise InputError(f"site.sandbox={name}: {reason}")


def _apptainer_missing(image: str) -> str:
    if reason := no_apptainer():
        return reason
    if not Path(image).is_file():
        return f"no image at site.images.environment='{image}'; set it to an image that holds Python and aworld"
    return _fault(ApptainerSandbox(str(Path(image).absolute())))


def _bubblewrap_missing() -> str:
    if shutil.which("bwrap") is None:
        return "no bwrap on PATH; install bubblewrap, or set site.sandbox=subprocess"
    return _fault(BubblewrapSandbox())


def _fault(sandbox: Sandbox) -> str:
    """Start the very command that episodes will use: a kernel or a site may forbid what it needs."""
    with tempfile.TemporaryDirectory() as scratch:
        imports = [sandbox.python, "-P", "-c", "import aworld.tools.common.server"]
        launch = sandbox.launch(imports, Contents(Path(scratch), schema.Environment()))
        try:
            done = probe(launch)
        except subprocess.TimeoutExpired:
            return f"{sandbox.name} did not start within {PROBE_SECONDS} s; set site.sandbox to another"
    if done.returncode == 0:
        return ""
    return _reason(sandbox.name, done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}")


def probe(launch: Launch) -> "subprocess.CompletedProcess[str]":
    """Run a process to its end and keep what it writes. One that Slurm's notice of a preemption has ended runs again.

    Raises:
        subprocess.TimeoutExpired: it takes longer than PROBE_SECONDS.
    """

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )

    done = run()
    # apptainer unblocks these signals, and is not deaf to them before its program begins
    return run() if done.returncode in (128 + signal.SIGUSR1, 128 + signal.SIGUSR2) else done


def _reason(name: str, last_line: str) -> str:
    """Why a sandbox does not work, by the last line that its probe wrote."""
    if name == "apptainer" and last_line.startswith("ModuleNotFoundError: No module named 'aworld"):
        return "site.images.environment holds an older aworld; build it anew: aworld containers build environment"
    return f"{name} does not work here ({last_line}); set site.sandbox to another"


def _for_scratch(seen: Iterable[Path]) -> list[str]:
    """The usual places of temporary files, to show the scratch there too; not where something else has to be seen."""
    paths = list(seen)
    return [place for place in TEMPORARY if not any(path.is_relative_to(place) for path in paths)]


def _environment(home: str, env: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a contained process: nothing of ours is passed on."""
    fixed = {"PATH": SYSTEM_PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    # one thread: a pool of threads per core can exceed the address space alone
    return {**fixed, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **env}


def _limited(limits: schema.Environment, per_sandbox: bool = False) -> list[str]:
    """Each process's own limits. That on their number holds for a sandbox only where it has a user namespace."""
    command = ["prlimit", f"--as={limits.memory_mb << 20}", f"--fsize={limits.scratch_mb << 20}", "--core=0"]
    return [*command, *([f"--nproc={limits.processes}"] if per_sandbox else []), "--"]


def _counts_processes_per_namespace() -> bool:
    """Before Linux 5.14 RLIMIT_NPROC counts all of the user's threads on the node, vLLM's too."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (5, 14)
