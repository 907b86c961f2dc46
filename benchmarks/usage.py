"""What commands use, with all that they start: CPU seconds and memory, counted by a control group of Linux.

Unlike a parent, the group also counts the processes that end unseen with the namespace of a sandbox.
"""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld.errors import InfrastructureError

PROCESSES = "cgroup.procs"


@dataclass(frozen=True)
class Used:
    """What a command has used.

    Attributes:
        seconds: from its start to its end.
        cpu: seconds of all its processes.
        memory: the largest sum of their proportional set sizes (PSS) that was seen, in bytes.
        began: when it was started, by `time.time`.
    """

    seconds: float
    cpu: float
    memory: int
    began: float


class Group:
    """A control group: `with Group() as group`. Its end is that of all its processes."""

    def __enter__(self) -> "Group":
        self._folder = _own_folder() / f"aworld-benchmark-{uuid.uuid4().hex[:8]}"
        try:
            self._folder.mkdir()
            with self.inside():
                pass
        except OSError as reason:
            raise InfrastructureError(
                f"no control group can be made ({reason}), which counts the CPU seconds; run this as root, or by "
                "systemd-run --user --scope -p Delegate=yes"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        with suppress(OSError):
            self._folder.rmdir()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This process and what it starts meanwhile belong to the group."""
        before = _own_folder()
        self.join()
        try:
            yield
        finally:
            (before / PROCESSES).write_text(str(os.getpid()))

    def join(self) -> None:
        (self._folder / PROCESSES).write_text(str(os.getpid()))

    def kill(self) -> None:
        """SIGKILL for all its processes. All are stopped first, so that none sees another end."""
        while found := self.processes():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for process in found:
                    with suppress(ProcessLookupError):
                        os.kill(process, number)
            time.sleep(0.02)

    def run(self, command: Sequence[str | Path], every: float, limit: float, **more: Any) -> Used:
        """Run a command to its end. Its memory is looked at each `every` seconds.

        Raises:
            InfrastructureError: it failed, or did not end within `limit` seconds; then the whole group is killed.
        """
        words = " ".join(map(str, command))
        before, began, seen = self.cpu(), time.time(), [0]
        with (
            tempfile.TemporaryFile("w+", errors="replace") as out,
            subprocess.Popen(command, preexec_fn=self.join, stdout=out, stderr=subprocess.STDOUT, **more) as process,
            self._watching(every, seen),
        ):
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                self.kill()
                raise InfrastructureError(f"{words} did not end within {limit:.3g} s") from None
            seconds = time.time() - began
            out.seek(0)
            last = " | ".join(out.read().strip().splitlines()[-5:])
        if process.returncode:
            raise InfrastructureError(f"{words} failed with exit code {process.returncode}: {last}")
        return Used(seconds, self.cpu() - before, max(seen), began)

    @contextmanager
    def _watching(self, every: float, seen: list[int]) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every):
                seen.append(self.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def cpu(self) -> float:
        """CPU seconds of its processes so far, ended ones too."""
        found = re.search(r"^usage_usec (\d+)$", (self._folder / "cpu.stat").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / 1e6

    def memory(self) -> int:
        """The sum of the proportional set sizes of its processes, in bytes: each shared page counts once."""
        found = 0
        for process in self.processes():
            with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                sizes = re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)
                found += int(sizes[1]) * 1024 if sizes else 0
        return found

    def processes(self) -> list[int]:
        return [int(line) for line in (self._folder / PROCESSES).read_text().split() if line != "0"]


def _own_folder() -> Path:
    """The folder of this process's control group, of version 2."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    mounted = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    own = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    if mounted is None or own is None:
        raise InfrastructureError("no control groups of version 2 are mounted here, which count the CPU seconds")
    return mounted / own[1].lstrip("/")
