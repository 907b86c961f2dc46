"""`aworld watch` in a terminal: its pages, its keys, and the terminal that it leaves behind; and in a pipe."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from terminal import Terminal
from unplayed_run import hold
from watched_run import ERROR, watched_run

from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir

pytestmark = pytest.mark.unit
WORD = re.compile(r"[A-Za-z][A-Za-z_-]+")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Workload]:
    return watched_run(tmp_path_factory.mktemp("watched"))


@pytest.fixture
def made(original: tuple[RunDir, Workload], tmp_path: Path) -> tuple[RunDir, Workload]:
    run, played = original
    copy = shutil.copytree(run.root, tmp_path / "run")
    return RunDir(copy), replace(played, folder=copy / played.folder.relative_to(run.root))


@pytest.fixture
def run(made: tuple[RunDir, Workload]) -> RunDir:
    return made[0]


def test_a_page_fits_80_by_24_without_cut_words_and_q_ends_it_at_once(run: RunDir) -> None:
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root)) as small:
        with Terminal("watch", str(run.root), columns=300, rows=50) as large:
            whole = set(WORD.findall(large.wait_for(ERROR)))
            large.type("q")
            assert large.end() == 10
        page = small.wait_for("last errors")
        lines = page.splitlines()
        assert len(lines) == 24 and max(map(len, lines)) <= 80
        words = {word for line in lines for word in WORD.findall(line)}
        assert words <= whole, words - whole
        shown = " ".join(page.split())
        for text in ("0/2 tasks 1 in hand", "worker-0 running on n00 2 episodes", "began again 1 ×"):
            assert text in shown
        for text in ("◆ held-out 0.25", "rollout 1 min 30 s", "an episode takes 23 s", "logs/77_0_log.err"):
            assert text in shown
        began = time.monotonic()
        small.type("q")
        assert small.restored(1.0), time.monotonic() - began
        assert small.end() == 10
        holder.terminate()


def test_tab_turns_the_pages(run: RunDir) -> None:
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root)) as terminal:
        terminal.wait_for("last errors")
        terminal.type("\t")
        assert "cold start" in terminal.wait_for("episodes  reward")
        terminal.type("\t\t")
        page = terminal.wait_for("rollout-1, ")
        assert " ".join(ERROR.split()) in " ".join(page.split())
        terminal.type("q")
        assert terminal.end() == 10
        holder.terminate()


def test_the_end_of_a_run_stays_on_the_normal_screen(run: RunDir) -> None:
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root), "--every", "0.2") as terminal:
        terminal.wait_for("last errors")
        holder.terminate()
        assert terminal.end() == 11
        assert "stopped; go on with: aworld resume" in terminal.afterwards and "held-out-0" in terminal.afterwards


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(run: RunDir, number: int, code: int) -> None:
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root)) as terminal:
        terminal.wait_for("last errors")
        os.kill(terminal.pid, number)
        assert terminal.end() == code
        holder.terminate()


def test_a_file_system_that_hangs_holds_up_no_key(made: tuple[RunDir, Workload]) -> None:
    run, played = made
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root), "--every", "0.2") as terminal:
        terminal.wait_for("last errors")
        os.mkfifo(played.folder / "journals" / "worker-9.journal")  # nobody writes: to open it takes for ever
        time.sleep(0.5)
        terminal.type("q")
        assert terminal.restored(1.0) and terminal.end() == 10
        holder.terminate()


def test_a_file_that_cannot_be_read_is_one_line_on_the_normal_screen(made: tuple[RunDir, Workload]) -> None:
    run, played = made
    (played.folder / "journals" / "worker-9.journal").write_bytes(b"something else, and long enough for a header")
    with hold(run, "rollout-0") as holder, Terminal("watch", str(run.root)) as terminal:
        assert terminal.end() == 4
        assert "worker-9.journal is no journal; move it away" in terminal.afterwards
        holder.terminate()


def test_in_a_pipe_each_change_is_a_line(made: tuple[RunDir, Workload]) -> None:
    run, played = made
    words = [sys.executable, "-u", "-m", "aworld", "watch", str(run.root), "--every", "0.2"]
    with hold(run, "rollout-0") as holder, subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        first = [watching.stdout.readline().split(" ", 1)[1].strip() for _ in range(5)]
        assert first[-1] == f"round 1: rollout 0/{len(played.tasks)}" and "held-out-0: evaluate done" in first
        claims_of(played, "worker-0", 600).mark_done(units(played)[0])
        assert watching.stdout.readline().split(" ", 1)[1].strip() == f"round 1: rollout 1/{len(played.tasks)}"
        holder.terminate()
        assert "stopped; go on with" in watching.stdout.read()
    assert watching.returncode == 11
