"""Trackers beside the stages of a run: a process that looks for what has finished, and starts those that write.

    python -m aworld.trackers.beside RUN

It ends with the stage that started it, whatever it is at. The next stage, or `aworld track RUN`, makes up for that.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NoReturn

from aworld.config import Config
from aworld.errors import AWorldError, guarded
from aworld.locks import hold
from aworld.processes import die_with_parent
from aworld.rundir import RunDir, open_run
from aworld.trackers import state
from aworld.trackers.tracker import FOLDER

LOOK_SECONDS = 30.0  # between two looks at the run
WRITE_SECONDS = 300.0  # that trackers may take; then they are ended
LAST_SECONDS = 30.0  # that the end of an evaluation waits for them at most
PAUSE_SECONDS = 600.0  # before a tracker that failed is tried again by itself
PRIORITY = 10  # the niceness of all that works beside a stage


@dataclass(frozen=True)
class Outcome:
    """What a tracker says of its work; and the reason why it failed, empty where it did not."""

    said: str
    reason: str


@contextmanager
def kept_up(config: Config, run: RunDir) -> Iterator[None]:
    """Keep the run's trackers up to date meanwhile, in a process beside this one. The end does not wait for them."""
    if not config.trackers:
        yield
        return
    process = None
    with _warned(run):
        process = subprocess.Popen([sys.executable, "-m", "aworld.trackers.beside", str(run.root)], preexec_fn=_apart)
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def bring_up_to_date(names: Sequence[str], run: RunDir, seconds: float = WRITE_SECONDS) -> None:
    """Do as `write_missing` at the end of a stage. Whatever fails is a line on stderr: the stage has done its work."""
    if names:
        with _warned(run):
            write_missing(names, run, seconds)


@contextmanager
def _warned(run: RunDir) -> Iterator[None]:
    """Make a warning of any error, such as of a full disk."""
    try:
        yield
    except Exception as error:  # of any kind: no tracker may end a stage, nor the process beside it
        reason = f"{error}" if isinstance(error, AWorldError) else f"{type(error).__name__}: {error}"
        mend = f"try again with: aworld track {run.root}"
        print(f"warning: trackers are not up to date: {reason}; {mend}", file=sys.stderr)


def write_missing(names: Sequence[str], run: RunDir, seconds: float = WRITE_SECONDS) -> dict[str, Outcome]:
    """Let each of these trackers write what it lacks, all at the same time. A line on stderr for each that fails.

    Args:
        seconds: the time that they have together; then they are ended.

    Returns:
        The outcome of each tracker that had something to do.
    """
    newest = run.newest_policy()
    with ExitStack() as stack:
        started = {
            name: _Writer(run, name, stack.enter_context(TemporaryFile("w+")), stack.enter_context(TemporaryFile("w+")))
            for name in names
            if state.is_behind(run, name, newest)
        }
        give_up = time.monotonic() + seconds
        found = {name: writer.outcome(give_up, seconds) for name, writer in started.items()}
    failed = {name: outcome.reason for name, outcome in found.items() if outcome.reason}
    for name, reason in failed.items():
        print(f"warning: {state.not_up_to_date(run, name, reason)}", file=sys.stderr)
    for name, reason in failed.items():  # on a full disk this fails as well
        state.note_failure(run, name, reason)
    return found


class _Writer:
    """A process that writes to one tracker. Its output goes to files: a process that it leaves behind may hold them."""

    def __init__(self, run: RunDir, name: str, output: IO[str], errors: IO[str]):
        self._output, self._errors = output, errors
        program = [sys.executable, "-m", "aworld.trackers.write", str(run.root), name]
        self._process = subprocess.Popen(program, stdout=output, stderr=errors, preexec_fn=_apart)

    def outcome(self, give_up: float, seconds: float) -> Outcome:
        """Wait for its end until `give_up` by the monotonic clock, `seconds` after its start; then end it."""
        is_late = False
        try:
            self._process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            is_late = True
            self._process.kill()
            self._process.wait()
        self._output.seek(0)
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        sys.stderr.writelines(f"{line}\n" for line in lines if line.startswith("warning: "))
        reason = ""
        if is_late:
            reason = f"it took longer than {seconds:g} s"
        elif code := self._process.returncode:
            reason = lines[-1].removeprefix("error: ") if lines else f"it ended with exit code {code}"
        return Outcome(self._output.read().strip(), reason)


def _apart() -> None:
    """Signals of a job are for its stage alone: Slurm sends them to all processes, and so does a terminal."""
    die_with_parent()
    os.nice(max(0, PRIORITY - os.nice(0)))  # once, though one such process starts another
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT))


def watch(config: Config, run: RunDir) -> None:
    """Keep the run's trackers up to date, one such process at a time. Any error is a line on stderr, and a pause."""
    while True:
        with _warned(run), hold(run.root / FOLDER / "beside.lock", LOOK_SECONDS):
            _look_again_and_again(config.trackers, run)
        time.sleep(PAUSE_SECONDS)


def _look_again_and_again(names: Sequence[str], run: RunDir) -> NoReturn:
    next_try = dict.fromkeys(names, 0.0)
    while True:
        due = [name for name, at in next_try.items() if time.monotonic() >= at]
        for name, outcome in write_missing(due, run).items():
            if outcome.reason:
                next_try[name] = time.monotonic() + PAUSE_SECONDS
        time.sleep(LOOK_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    watch(*open_run(parser.parse_args().run))


if __name__ == "__main__":
    sys.exit(guarded(main))
