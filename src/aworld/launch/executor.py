"""Start a stage as a process on this machine through submitit, and know how it went.

It runs the same command that a batch script would: `python -m aworld STAGE RUN …`.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import submitit

from aworld.errors import InfrastructureError
from aworld.launch.plan import Stage
from aworld.locks import end_holder
from aworld.processes import die_with_parent
from aworld.publish import append_json
from aworld.rundir import RunDir

PATIENCE = 10.0  # seconds for a job to notice that its work ended


def processes(stage: Stage) -> list[Stage]:
    """A stage as one process for each of its workers."""
    if not stage.has_workers:
        return [stage]
    workers = range(stage.resources.workers)
    return [replace(stage, name=f"{stage.name}-{n}", words=(*stage.words, "--worker", str(n))) for n in workers]


def command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "aworld", *words]


def execute(words: tuple[str, ...]) -> int:
    """Runs inside the job: the stage's command, whose exit code is the job's result."""
    return subprocess.run(command(words), preexec_fn=die_with_parent, check=False).returncode


@dataclass
class Job:
    """A submitted stage."""

    stage: Stage
    submitted: submitit.Job[int]
    since: float = field(default_factory=time.time)

    def exit_code(self) -> int | None:
        """None while it runs; a job that left no result was killed: -9."""
        if not self.submitted.done():
            return None
        return -9 if self.submitted.exception() else self.submitted.result()

    def end(self, run: RunDir) -> None:
        """Stop it now; its files let it go on later."""
        was_at_work = False
        with suppress(InfrastructureError):  # then by its job; the others of the crew have to end as well
            was_at_work = end_holder(lock(run, self.stage))
        give_up = time.monotonic() + (PATIENCE if was_at_work else 0)
        while not self.submitted.done() and time.monotonic() < give_up:
            time.sleep(0.1)
        if not self.submitted.done():
            _kill(int(self.submitted.job_id))

    def complaint(self) -> str:
        """The last error it reported in one line, if it did, and where its log is."""
        path = self.submitted.paths.stderr
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return f"{said[-1]} ({path})" if said else f"see {path}"


def submit(run: RunDir, stage: Stage) -> Job:
    """Start a stage's process and note it in `jobs.jsonl`."""
    end_holder(lock(run, stage))  # left over from a launcher that was killed
    executor = submitit.LocalExecutor(folder=str(run.logs))
    executor.update_parameters(timeout_min=7 * 24 * 60)
    with _deaf_to_interrupts():
        submitted = executor.submit(execute, stage.words)
    append_json(run.jobs, {"stage": stage.name, "job": submitted.job_id, "words": stage.words, "time": time.time()})
    return Job(stage, submitted)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What starts meanwhile ignores Ctrl-C, which a terminal sends to all its processes: the launcher ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _kill(pid: int) -> None:
    """End a process, and all that it started, at once."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                each.kill()


def lock(run: RunDir, stage: Stage) -> Path:
    """Held by the process that does the stage's work; all training of a run shares one."""
    return run.lock("train" if stage.words[0] == "train" else stage.name)
