"""Two copies of one worker, as when Slurm lost sight of a node: nothing doubled, nothing lost."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
import strace
from trial import LEASE, TASKS, Trial

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1800)]


def start(trial: Trial) -> subprocess.Popen[str]:
    return subprocess.Popen(trial.command("rollout"), stderr=subprocess.PIPE, text=True)


def test_two_copies_share_the_work(after: Callable[[str], Trial], undisturbed: Trial) -> None:
    trial = after("prepare")
    text = trial.run.config.read_text()
    assert f"lease_seconds: {LEASE}.0" in text
    trial.run.config.write_text(
        text.replace(f"lease_seconds: {LEASE}.0", "lease_seconds: 60.0")
    )  # none runs out meanwhile
    for copy in [start(trial), start(trial)]:
        assert copy.wait(300) == 0, copy.stderr and copy.stderr.read()
    assert len(trial.played()) == TASKS  # each by one of them
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


def test_a_copy_that_comes_back_after_its_work_was_taken_over(
    after: Callable[[str], Trial], undisturbed: Trial
) -> None:
    """The first is stopped in the middle, its leases run out, the second does everything, the first wakes up."""
    trial = after("prepare")
    first = start(trial)
    while not list((trial.run.round(0) / "claims").glob("*.claim")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    time.sleep(LEASE + 1)  # a worker that finds nothing free does not wait for it
    trial.finish("rollout")
    assert set(trial.played()) == {task for task, _ in undisturbed.gathered()}
    first.send_signal(signal.SIGCONT)
    assert first.wait(300) == 0
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


@strace.needed
def test_two_copies_where_the_file_system_has_no_locks(after: Callable[[str], Trial], undisturbed: Trial) -> None:
    """As Lustre mounted without -o flock. Each believes it is alone, and takes the claims of that name for its own."""
    trial = after("prepare")
    words = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOSYS"]

    def start_until(copies: int) -> subprocess.Popen[bytes]:
        """Start one more, and wait until so many have a journal."""
        copy = subprocess.Popen([*words, *trial.command("rollout")], start_new_session=True)
        while len(list(trial.journal.parent.glob("worker-0.*.journal"))) < copies:
            assert copy.poll() is None
            time.sleep(0.005)
        return copy

    first = start_until(1)
    os.killpg(first.pid, signal.SIGSTOP)  # else it might have played everything before the other begins
    second = start_until(2)
    os.killpg(first.pid, signal.SIGCONT)
    assert (first.wait(300), second.wait(300)) == (0, 0)
    assert set(trial.played()) == {task for task, _ in undisturbed.gathered()}
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()
