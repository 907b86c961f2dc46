"""Checks of one node, made on it: `aworld doctor` runs them on the login node and on compute nodes."""

import asyncio
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from aworld.config import Config, Resources
from aworld.containers import no_apptainer
from aworld.doctor.check import Check, degraded, missing, ok
from aworld.environments.escapes import try_all
from aworld.environments.sandbox import choose
from aworld.errors import AWorldError, InputError
from aworld.launch.preview import checked
from aworld.launch.script import scripts
from aworld.rundir import RunDir
from aworld.stages import SUBMIT, Stage

ANYWHERE = ("1.1.1.1", 443)  # an address that answers wherever there is an internet


def checks(config: Config, folder: Path, resources: Resources | None) -> Iterator[Check]:
    """Everything about this node.

    Args:
        folder: it is there, on the file system of the run directory.
        resources: what the stage that is to run here asks for; None: this is a login node, where none does.
    """
    yield _namespaces()
    yield _cgroups()
    yield _apptainer()
    only_in_jobs = resources is None and config.site.setup and no_apptainer()  # its module is not loaded here
    if not only_in_jobs:
        yield from _sandbox(config, folder)
    yield from _shared(folder)
    if resources is not None:
        yield _scratch(config)
    yield _internet()
    if resources is not None:
        yield gpus(resources)
        if config.site.executor == "slurm" and config.site.jobs_may_submit:
            yield _submission(config, folder)


def _says(*words: str, seconds: float = 60) -> tuple[int, str]:
    """The exit code of a command and the last line it wrote."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as reason:
        return 127, str(reason)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def _namespaces() -> Check:
    code, said = _says("unshare", "--user", "--map-root-user", "true")
    if code:
        return degraded("user namespaces", said, "without them bubblewrap and rootless Apptainer do not work")
    return ok("user namespaces", "an ordinary user can make them")


def _cgroups() -> Check:
    """Nothing rests on them: a sandbox's memory is watched, not capped by the kernel, wherever it runs."""
    own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip().rpartition("::/")[2]
    is_ours = (own / "cgroup.procs").exists() and os.access(own, os.W_OK) and os.geteuid()
    delegated = "delegated to this user" if is_ours else "not delegated"
    return ok("cgroups", f"{delegated}, and not used: each sandbox's memory is added up twice a second")


def _apptainer() -> Check:
    code, said = _says("apptainer", "--version")
    if code:
        return degraded("Apptainer", "it is not on PATH", "load its module (site.setup), or: bash scripts/apptainer.sh")
    return ok("Apptainer", said)


def _sandbox(config: Config, folder: Path) -> Iterator[Check]:
    site = config.site
    try:
        sandbox = choose(site.sandbox, site.images.environment)
    except InputError as reason:
        mend = "build the image: aworld containers build environment; or set site.sandbox=bubblewrap"
        yield missing("sandbox", str(reason), mend)
        return
    if sandbox.name == "subprocess":
        yield degraded(
            "sandbox", "a plain subprocess: neither files nor network are out of reach", "install bubblewrap"
        )
    else:
        yield ok("sandbox", f"{sandbox.name}; known gaps: {'; '.join(sandbox.gaps) or 'none'}")
    for attempt in asyncio.run(try_all(sandbox, config.environment, folder)):
        if attempt.blocked:
            yield ok(f"escape: {attempt.name}", attempt.detail)
        else:
            yield degraded(f"escape: {attempt.name}", attempt.detail, "use a tighter sandbox: docs/sandbox.md")


def _shared(folder: Path) -> Iterator[Check]:
    """Whether the file system keeps the promises that claims, journals and publishing rest on."""
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    probe.mkdir()
    try:
        (probe / "a").write_text("old")
        (probe / "b").write_text("new")
        os.replace(probe / "b", probe / "a")
        try:
            os.open(probe / "a", os.O_CREAT | os.O_EXCL)
            yield missing("exclusive create", f"{folder} lets two win", "put runs on another file system")
        except FileExistsError:
            yield ok("rename and exclusive create", f"as they should be in {folder}")
        skew = abs((probe / "a").stat().st_mtime - time.time())
        yield ok("clock", f"the file system's differs by {skew:.1f} s; leases go by the file system's")
        with open(probe / "a") as one, open(probe / "a") as other:
            try:
                fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield degraded(
                    "file locks", "they do not exclude", "set HDF5_USE_FILE_LOCKING=FALSE in site.environment"
                )
            except BlockingIOError:
                yield ok("file locks", "they exclude, on this node at least")
            except OSError as reason:
                mend = "set HDF5_USE_FILE_LOCKING=FALSE in site.environment; journals do without"
                yield degraded("file locks", str(reason), mend)
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _scratch(config: Config) -> Check:
    folder = Path(config.site.scratch or tempfile.gettempdir())
    if not os.access(folder, os.W_OK):
        return missing("node-local scratch", f"{folder} cannot be written", "set site.scratch")
    kind = _says("stat", "--file-system", "--format=%T", str(folder))[1]
    free = shutil.disk_usage(folder).free / 2**30
    if kind in ("nfs", "lustre", "gpfs", "fuseblk", "beegfs"):
        return degraded("node-local scratch", f"{folder} is on {kind}, which is shared", "set site.scratch")
    return ok("node-local scratch", f"{folder} ({kind}), {free:.0f} GiB free")


def _internet() -> Check:
    try:
        socket.create_connection(ANYWHERE, timeout=3).close()
    except OSError:
        return ok("internet", "none; the stages need none")
    return ok("internet", "reachable")


def _submission(config: Config, folder: Path) -> Check:
    """Whether a job may submit others, as the last one of a round does."""
    stage = Stage.of(SUBMIT, config, RunDir(folder), 0)
    try:
        said = checked(config.site, stage, scripts(config.site, stage, [])[0], folder)
    except AWorldError as reason:
        mend = "set site.jobs_may_submit=false; then `aworld resume RUN` submits later rounds, by hand or by cron"
        return missing("sbatch in a job", str(reason), mend)
    return ok("sbatch in a job", said)


def gpus(resources: Resources) -> Check:
    """Whether this node has the GPUs that are asked for."""
    wanted = resources.gpus_per_node
    code, said = _says("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if code:
        return missing("GPUs", said, "choose a partition with GPUs") if wanted else ok("GPUs", "none, none asked for")
    count = len(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines())
    if count < wanted:
        return missing("GPUs", f"{count} × {said}, {wanted} asked for", "set the stage's gpus_per_node")
    return ok("GPUs", f"{count} × {said}")
