"""Lock files: one holder at a time, who can be named and ended, also where the file system shares locks or has none."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import no_locks
import pytest

from aworld.errors import InfrastructureError
from aworld.locks import end_holder, hold, sole_holder, try_to_hold
from aworld.rundir import RunDir

pytestmark = pytest.mark.unit

NODE = os.uname().nodename


def test_one_holder_at_a_time_who_can_be_ended(tmp_path):
    lock = tmp_path / "locks" / "train.lock"
    program = f"""
        import signal, time
        from pathlib import Path
        from aworld.locks import sole_holder
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with sole_holder(Path({str(lock)!r})):
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(InfrastructureError, match=f"process {holder.pid} on node {NODE} is already doing this work"),
        sole_holder(lock),
    ):
        pass
    assert end_holder(lock, term_seconds=0.5)  # it ignores SIGTERM
    assert holder.wait(5) == -signal.SIGKILL
    assert not end_holder(lock)
    with sole_holder(lock):
        pass


@contextmanager
def held_by(path: Path, text: str) -> Iterator[None]:
    """A lock as a file system that shares its locks shows it to this node: it is held, by whom its text says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with open(path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def test_a_holder_on_another_node_is_named_and_nobody_here_is_signalled(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"])  # has here the process id that the holder has there
    lock = tmp_path / "train.lock"
    with held_by(lock, f"login1 {stranger.pid}"):
        with pytest.raises(InfrastructureError, match=rf"{stranger.pid} is at work on node login1 \(.*; end it there"):
            end_holder(lock, term_seconds=0.5)
        with (
            pytest.raises(InfrastructureError, match=f"process {stranger.pid} on node login1 is already doing"),
            sole_holder(lock),
        ):
            pass
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("who", ["", f"{NODE} 4194305"])  # above the largest process id that Linux gives
def test_a_lock_whose_holder_cannot_be_ended_is_not_waited_for(tmp_path, who):
    lock = tmp_path / "train.lock"
    with held_by(lock, who), pytest.raises(InfrastructureError, match=f"{lock} is held, and .* does not end"):
        end_holder(lock, term_seconds=0.5)


def test_who_waits_for_a_lock_looks_at_once_then_ever_more_seldom_and_gets_it(tmp_path):
    lock, program = (
        tmp_path / "locks" / "prepare.lock",
        """
        import sys, time
        from pathlib import Path
        from aworld.locks import hold
        print("waits", flush=True)
        began = time.monotonic()
        with hold(Path(sys.argv[1]), float(sys.argv[2])):
            print(time.monotonic() - began)
    """,
    )
    words = [sys.executable, "-c", textwrap.dedent(program), str(lock)]
    with try_to_hold(lock) as is_ours:
        assert is_ours
        seldom = subprocess.Popen([*words, "5"], stdout=subprocess.PIPE, text=True)
        often = subprocess.Popen([*words, "0.1"], stdout=subprocess.PIPE, text=True)
        for process in (seldom, often):
            assert process.stdout.readline() == "waits\n"
        time.sleep(1.0)  # it looked after 0, 0.1, 0.3 and 0.7 s, and will after 1.5 s
        waited = time.monotonic()
    took = float(often.communicate(timeout=20)[0])
    assert took < 1.5 and time.monotonic() - waited < 1.0
    assert float(seldom.communicate(timeout=20)[0]) >= 1.4
    with hold(lock, 1.0):  # free again
        pass


@no_locks.needed
def test_without_locks_nobody_holds_one(tmp_path):
    run = RunDir(tmp_path)
    program = f"""
        from pathlib import Path
        from aworld.locks import end_holder
        from aworld.rundir import RunDir
        run = RunDir(Path({str(tmp_path)!r}))
        print(run.is_worked_on(), end_holder(run.lock("train")))
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    with held_by(run.lock("train"), f"{NODE} {os.getpid()}"):
        done = subprocess.run(words, preexec_fn=no_locks.refuse_flock, capture_output=True, text=True, check=True)
        assert run.is_worked_on()
    assert done.stdout.split() == ["False", "False"]
