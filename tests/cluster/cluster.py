"""A real Slurm of several virtual nodes on this machine, private to whoever starts it: seconds to start, no root.

python tests/cluster/cluster.py start|stop|status|env [--folder FOLDER]
"""

import argparse
import fcntl
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil
from slurm_conf import DEFAULT, USER, Settings, gres_conf, node_names, slurm_conf, slurmdbd_conf

from aworld.errors import InfrastructureError, InputError, guarded

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun"]
ACCOUNTING = ["slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db"]
SOCKETS = Path("/tmp")  # paths of sockets may have 107 characters, so no TMPDIR
PREFIX = "aworld-cluster-"
RETITLED = ("slurmstepd", "slurmscriptd")  # these write their title over their environment
UP = {"idle", "mixed", "allocated", "completing"}


def missing(settings: Settings = DEFAULT) -> str:
    """What keeps a cluster from starting here, in one line; "" if nothing does."""
    wanted = PROGRAMS + ACCOUNTING * settings.accounting
    absent = [program for program in wanted if not _find(program)]
    return f"{', '.join(absent)} not installed; make cluster-packages" if absent else ""


class Cluster:
    """One cluster, whose state is all in `folder`.

    Attributes:
        env: variables with which Slurm's commands, and submitit, talk to this cluster.
    """

    def __init__(self, folder: Path, settings: Settings = DEFAULT):
        self.folder = folder.absolute()
        self.settings = settings
        self.nodes = node_names(settings)
        self.name = "aworld" + hashlib.sha1(str(self.folder).encode()).hexdigest()[:8]
        self.conf = self.folder / "slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf)}
        self._lock: TextIO | None = None

    @classmethod
    def temporary(cls, settings: Settings = DEFAULT) -> "Cluster":
        """A new one that ends with this process at the latest: should it be killed, the next one made here ends it."""
        end_orphans()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=SOCKETS))
        cluster = cls(folder, settings)
        cluster._lock = (folder / "lock.new").open("w")  # Linux lets go of it when this process ends, however it ends
        fcntl.flock(cluster._lock, fcntl.LOCK_EX)
        (folder / "lock.new").rename(folder / "lock")
        return cluster

    def start(self) -> None:
        """Start what does not run yet and wait until all nodes are up.

        Raises:
            InputError: Slurm is not installed.
            InfrastructureError: something did not start; its log is named.
        """
        if reason := missing(self.settings):
            raise InputError(reason)
        if not self.conf.exists():
            self._configure()
        if not self._alive("munged"):
            self._run(
                *("munged", "--force", f"--key-file={self.folder}/munge.key", f"--seed-file={self.folder}/munge.seed"),
                *(f"--socket={self.folder}/run/munge.sock", f"--pid-file={self.folder}/run/munged.pid"),
                f"--log-file={self.folder}/log/munged.log",
            )
        if self.settings.accounting:
            self._start_accounting()
        self.start_slurmctld()
        for node in self.nodes:
            self.start_slurmd(node)
        self.wait(self._up)

    def stop(self) -> None:
        """Cancel the jobs, end every process, remove the folder."""
        if self._alive("slurmctld"):
            with suppress(InfrastructureError, subprocess.CalledProcessError):  # what does not end is killed below
                self.cancel_all()
        while found := self.processes():
            _kill(found)
        shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self) -> None:
        """Make it empty and whole again: every daemon up, no job left, all nodes idle."""
        self.start()
        self.cancel_all()
        self.wait(lambda: self._up() and set(self.node_states().values()) == {"idle"}, seconds=180)

    def cancel_all(self) -> None:
        if jobs := self.slurm("squeue", "--noheader", "--format=%A").split():
            self._succeeds("scancel", *jobs)  # not so where one ended just now
            self.wait(lambda: not self.slurm("squeue", "--noheader"))

    def running(self) -> bool:
        return self._alive("slurmctld")

    def slurm(self, *command: str) -> str:
        """The output of one of Slurm's commands.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        env = os.environ | self.env
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()

    def node_states(self) -> dict[str, str]:
        """By node: idle, mixed, allocated, down, …; with a * where it does not answer."""
        done = subprocess.run(
            ["sinfo", "-hN", "-p", "low", "-o", "%N %T"], env=os.environ | self.env, capture_output=True, text=True
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def processes(self, node: str = "") -> list[psutil.Process]:
        """Daemons, steps, and what jobs started, on one node or on all."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # ended meanwhile, or another user's
                if self._owns(process, node):
                    found |= {process, *process.children(recursive=True)}
        return list(found)

    def _owns(self, process: psutil.Process, node: str) -> bool:
        """Slurm tells a job its cluster and node in these variables, and `_run` tells them to the daemons."""
        if process.name() in RETITLED:
            logs = [Path(file.path) for file in process.open_files()]
            return any(log.parent == self.folder / "log" and node in ("", log.stem) for log in logs)
        env = process.environ()
        return env.get("SLURM_CLUSTER_NAME") == self.name and node in ("", env.get("SLURMD_NODENAME"))

    def wait(self, condition: Callable[[], bool], log: str = "slurmctld.log", seconds: float = 120) -> None:
        """Raises:
        InfrastructureError: `condition` did not come true in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise InfrastructureError(f"no answer within {seconds:.0f} seconds; see {self.folder}/log/{log}")
            time.sleep(0.2)

    def kill_slurmd(self, node: str) -> None:
        """End a node as a power failure does: slurmd and all that runs there, by SIGKILL."""
        while found := self.processes(node):
            _kill(found)

    def take_down(self, node: str) -> None:
        """Say that a node is lost, as monitoring does, before Slurm sees it; its jobs are requeued."""
        self.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def start_slurmd(self, node: str) -> None:
        if not self._alive(node):
            self._run("slurmd", "-N", node, node=node)

    def resume_drained_nodes(self) -> None:
        """What an administrator does after Slurm took a node out of service."""
        if drained := self.slurm("sinfo", "--noheader", "--states=drain", "--format=%n").split():
            self.slurm("scontrol", "update", f"NodeName={','.join(drained)}", "State=RESUME")

    def kill_slurmctld(self) -> None:
        """SIGKILL. Slurm writes its state within five seconds of a change; what is younger is lost."""
        with suppress(psutil.NoSuchProcess):
            _kill([psutil.Process(self._pid("slurmctld"))])

    def start_slurmctld(self) -> None:
        if not self._alive("slurmctld"):
            self._run("slurmctld")

    def _configure(self) -> None:
        for name in ("state", "run", "log", *(f"spool/{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the database asks for no password
        ports = _free_ports(2 + self.settings.nodes)
        for name, text in {
            "munge.key": secrets.token_hex(64),
            "gres.conf": gres_conf(),
            "cgroup.conf": "CgroupAutomount=no\n",
            "slurmdbd.conf": slurmdbd_conf(self.folder, ports[1]),
            "slurm.conf": slurm_conf(self.settings, self.folder, self.name, ports, 1 + secrets.randbelow(900_000)),
        }.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)

    def _start_accounting(self) -> None:
        data, run = self.folder / "mysql", self.folder / "run"
        user = f"--user={USER}"
        if not data.exists():
            self._run(
                *("mariadb-install-db", "--no-defaults", user, f"--datadir={data}", "--skip-test-db"),
                *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={USER}"),
            )
        if not self._alive("mariadb"):
            self._run(
                *("setsid", "--fork", _find("mariadbd"), "--no-defaults", user, f"--datadir={data}"),
                *("--skip-networking", f"--socket={run}/mariadb.sock", f"--pid-file={run}/mariadb.pid"),
                *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"),
            )
            self.wait((run / "mariadb.sock").exists, "mariadbd.log")
        if not self._alive("slurmdbd"):
            self._run("slurmdbd")
        self.wait(lambda: self._succeeds("sacctmgr", "-n", "list", "cluster"), "slurmdbd.log")
        if self.name not in self.slurm("sacctmgr", "-n", "list", "cluster", "format=cluster%20"):
            self.slurm("sacctmgr", "-i", "add", "cluster", self.name)

    def _run(self, program: str, *words: str, node: str = "") -> None:
        """Run a program that goes into the background by itself; what it says is in the log folder."""
        marks = {"SLURM_CLUSTER_NAME": self.name, "MYSQL_UNIX_PORT": f"{self.folder}/run/mariadb.sock"}
        marks["TMPDIR"] = f"{self.folder}/run"  # two MariaDBs that begin together would share temporary files in /tmp
        if node:
            marks["SLURMD_NODENAME"] = node
        log = self.folder / "log" / f"{program if program != 'setsid' else 'mariadbd'}.out"
        with log.open("ab") as out:
            done = subprocess.run(
                [_find(program), *words],
                env=os.environ | self.env | marks,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        if done.returncode:
            raise InfrastructureError(f"{program} did not start: {log.read_text().strip()[-300:]} ({log})")

    def _succeeds(self, *command: str) -> bool:
        return not subprocess.run(command, env=os.environ | self.env, capture_output=True).returncode

    def _up(self) -> bool:
        states = self.node_states()
        if any("drain" in state for state in states.values()):  # where a launch failed, or processes took long to end
            self.resume_drained_nodes()
        return list(states) == self.nodes and set(states.values()) <= UP

    def _pid(self, daemon: str) -> int:
        try:
            return int((self.folder / "run" / f"{daemon}.pid").read_text())
        except (FileNotFoundError, ValueError):  # not started, or writing it just now
            return 0

    def _alive(self, daemon: str) -> bool:
        pid = self._pid(daemon)
        return bool(pid) and any(process.pid == pid for process in self.processes())


def end_orphans() -> None:
    """Stop the temporary clusters whose process is gone."""
    for path in SOCKETS.glob(f"{PREFIX}*/lock"):
        with suppress(BlockingIOError, FileNotFoundError), path.open() as lock:  # held, or ended just now
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Cluster(path.parent).stop()


def _find(program: str) -> str:
    """An ordinary user has no sbin in the PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin") or ""


def _free_ports(count: int) -> list[int]:
    """Below the range of outgoing connections, so that a daemon that comes back finds its port free."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(10000, 32000), 1000):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise InfrastructureError(f"no {count} free ports between 10000 and 32000")


def _kill(processes: list[psutil.Process]) -> None:
    """All are stopped before the first is killed, or a step would still report how its job ended."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    psutil.wait_procs(processes, timeout=10)


def main() -> int:
    parser = argparse.ArgumentParser(description="a private Slurm on this machine")
    parser.add_argument("action", choices=["start", "stop", "status", "env"])
    parser.add_argument("--folder", type=Path, default=SOCKETS / f"{PREFIX}{os.getuid()}")
    words = parser.parse_args()
    cluster = Cluster(words.folder)
    if words.action == "start":
        cluster.start()
        print(f"a Slurm of {len(cluster.nodes)} virtual nodes runs; `make cluster-stop` ends it. To use it:\n")
        print(f"  {_exports(cluster)}\n  python jobs/pipeline.py recipe=demo site=test-cluster")
        return 0
    if words.action == "stop":
        cluster.stop()
        return 0
    if not cluster.running():
        raise InputError(f"no cluster runs in {cluster.folder}; make cluster")
    if words.action == "env":
        print(f"export SLURM_CONF={cluster.conf}")
    else:
        print(cluster.slurm("sinfo", "--Node", "--long"), cluster.slurm("squeue"), sep="\n")
    return 0


def _exports(cluster: Cluster) -> str:
    """The line that lets a shell use the cluster: its configuration, this Python, and Apptainer wherever it is."""
    found = (sys.executable, shutil.which("apptainer"))
    folders = [str(Path(program).parent) for program in found if program]
    return f"export SLURM_CONF={cluster.conf} PATH={':'.join(folders)}:$PATH"


if __name__ == "__main__":
    sys.exit(guarded(main))
