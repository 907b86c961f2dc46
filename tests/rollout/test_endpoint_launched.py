"""`jobs/evaluate.py` on this machine, which waits for its workers: one is lost, or the launcher is told to end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from endpoint_model import NAME, ROOT, Model, begin, made_up_copy, prepare, records

from aworld.rollout.units import is_closed
from aworld.rundir import RunDir
from aworld.watch.status import on_benchmark

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]
ROWS = [{"task_id": f"item-{n}", "Question": f"Say the number {n}", "Final answer": "1"} for n in range(12)]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return prepare(tmp_path)


def launched(run: RunDir) -> subprocess.Popen[str]:
    words = [sys.executable, "jobs/evaluate.py", str(run.root), "--policy", "0", "--name", NAME]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )


def wait(launcher: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    while not until():
        assert launcher.poll() is None, launcher.stdout and launcher.stdout.read()
        time.sleep(0.1)


def test_a_worker_that_was_killed_is_started_again(run: RunDir, tmp_path: Path) -> None:
    go = threading.Event()

    def says(_: dict[str, object]) -> dict[str, object]:
        go.wait()
        return {"content": "FINAL ANSWER: 1"}

    with Model(says) as model:
        begin(
            run, made_up_copy(tmp_path / "GAIA", ROWS), "evaluation.attempts=1", "rollout.lease_seconds=5", *model.words
        )
        journals = run.evaluation(NAME, 0) / "journals"
        with launched(run) as launcher:
            wait(launcher, lambda: len(list(journals.glob("*.journal"))) == 2 and len(model.asked) == 4)
            _, pid = run.lock(f"evaluate-{NAME}-0000-1").read_text().split()
            os.kill(int(pid), signal.SIGKILL)
            go.set()
            told, _ = launcher.communicate()
        model.shutdown()
    assert launcher.returncode == 0, told
    assert f"evaluate-{NAME}-0000-1 was killed; started again" in told
    assert is_closed(on_benchmark(run, NAME, 0)) and len(records(run)) == len(ROWS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_launcher_takes_its_workers_with_it(run: RunDir, tmp_path: Path, number: int) -> None:
    """The signal reaches the launcher alone, as `kill` sends it; Ctrl-C reaches all."""
    go = threading.Event()

    def says(_: dict[str, object]) -> dict[str, object]:
        go.wait()
        return {"content": "FINAL ANSWER: 1"}

    with Model(says) as model:
        begin(run, made_up_copy(tmp_path / "GAIA", ROWS), "evaluation.attempts=1", *model.words)
        with launched(run) as launcher:
            wait(launcher, lambda: len(model.asked) == 4)
            assert run.is_worked_on()
            launcher.send_signal(number)
            told, _ = launcher.communicate()
        assert not run.is_worked_on()
        go.set()
        model.shutdown()
    assert launcher.returncode == 130 and "the same command goes on from here" in told
    assert "Traceback" not in told
