"""Nothing outlives the reaper: neither its command's end, nor a signal, nor its own parent's death."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aworld.environments.reaper import descendants
from aworld.environments.sandbox import REAPED

pytestmark = pytest.mark.tools
# two sleepers, of which one left its session and its parent, and then what the test wants of the command
STRAYS = "import os, sys, time; r = lambda: os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', sys.argv[1]); r()\n"
STRAYS += "if os.fork() == 0: os.setsid(); r(); os._exit(0)\n"


def start(end: str, mark: str, *more: str) -> subprocess.Popen[str]:
    words = [*REAPED, sys.executable, "-c", STRAYS + end, mark, *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def sleepers(mark: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", mark]]


def wait_until(condition: object) -> None:
    give_up = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_the_end_of_the_command_ends_all_it_started(tmp_path: Path) -> None:
    end = "while not os.path.exists(sys.argv[2]): time.sleep(0.02)\nprint('said', flush=True); sys.exit(7)"
    reaper = start(end, "600.1", str(tmp_path / "seen"))
    wait_until(lambda: len(sleepers("600.1")) == 2)
    assert set(sleepers("600.1")) < set(descendants(reaper.pid))  # the stray is its child by now, or still another's
    (tmp_path / "seen").touch()
    assert reaper.communicate(timeout=60)[0] == "said\n" and reaper.returncode == 7
    assert sleepers("600.1") == []


def test_a_command_killed_by_a_signal_is_told_as_a_shell_does() -> None:
    reaper = start("os.kill(os.getpid(), 9)", "600.2")
    assert reaper.wait(60) == 128 + signal.SIGKILL
    assert sleepers("600.2") == []


def test_the_term_signal_ends_all_also_while_it_forks() -> None:
    forks = "\nwhile True:\n    if os.fork() == 0: r(); os._exit(0)\n    time.sleep(0.001)"
    reaper = start(forks, "600.3")
    wait_until(lambda: len(sleepers("600.3")) > 20)
    reaper.terminate()
    assert reaper.wait(60) == 128 + signal.SIGTERM
    assert sleepers("600.3") == []


def test_the_death_of_its_parent_ends_all() -> None:
    command = [*REAPED, sys.executable, "-c", STRAYS + "time.sleep(600)", "600.4"]
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command})"])
    wait_until(lambda: len(sleepers("600.4")) == 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: sleepers("600.4") == [])


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([*REAPED, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == f"{tmp_path / 'no'}: No such file or directory\n"


def test_descendants_of_what_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert descendants(child.pid) == []
    assert os.getpid() not in descendants(os.getpid())
