"""A stage as a process on this machine: submitit starts it, and knows its exit code.

It runs the same command that a batch script would: `python -m aworld STAGE RUN …`.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import submitit

from aworld.errors import InfrastructureError
from aworld.locks import end_holder
from aworld.processes import die_with_parent
from aworld.publish import append_json
from aworld.stages import Stage

PATIENCE = 10.0  # seconds, for a job to notice that its work ended


def processes(stage: Stage) -> list[Stage]:
    """A stage as one process for each of its workers."""
    return [stage.task_of(n) for n in range(stage.resources.workers)] if stage.kind.has_workers else [stage]


def command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "aworld", *arguments]


def execute(arguments: tuple[str, ...]) -> int:
    """Run a stage's command inside the job; its exit code is the job's result."""
    return subprocess.run(command(arguments), preexec_fn=die_with_parent, check=False).returncode


@dataclass(frozen=True)
class Job:
    """A stage that was started."""

    stage: Stage
    submitted: submitit.Job[int]

    def exit_code(self) -> int | None:
        """None while it runs; -9 where the job left no result, as it was killed."""
        if not self.submitted.done():
            return None
        return -9 if self.submitted.exception() else self.submitted.result()

    def end(self) -> None:
        """Stop it now; its files let it go on later."""
        was_at_work = False
        with suppress(InfrastructureError):  # it does not end by this: its job is killed below
            was_at_work = end_holder(self.stage.lock)
        give_up = time.monotonic() + (PATIENCE if was_at_work else 0)
        while not self.submitted.done() and time.monotonic() < give_up:
            time.sleep(0.1)
        if not self.submitted.done():
            _kill(int(self.submitted.job_id))

    def complaint(self) -> str:
        """The last error that it reported, if any, and the path of its log, in one line."""
        path = self.submitted.paths.stderr
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return f"{said[-1]} ({path})" if said else f"see {path}"


def submit(stage: Stage) -> Job:
    """Start a stage's process and note it in `jobs.jsonl`."""
    end_holder(stage.lock)  # left over from a launcher that was killed
    executor = submitit.LocalExecutor(folder=str(stage.run.logs))
    executor.update_parameters(timeout_min=7 * 24 * 60)
    with _deaf_to_interrupts():
        submitted = executor.submit(execute, stage.arguments)
    append_json(
        stage.run.jobs, {"stage": stage.name, "job": submitted.job_id, "words": stage.arguments, "time": time.time()}
    )
    return Job(stage, submitted)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C, which a terminal sends to all of them: the launcher ends them."""
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
