"""Trackers beside a stage: they write meanwhile, and one that hangs or fails costs the stage nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tracked_run

from aworld.locks import try_to_hold
from aworld.rundir import open_run
from aworld.trackers import beside, state

pytestmark = pytest.mark.tools

PATIENCE = 240.0  # seconds, where many share the machine


def test_one_that_hangs_holds_up_neither_the_others_nor_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tracked_run.make(tmp_path, "trackers=[wandb,tensorboard]")
    config, _ = open_run(run.root)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and never answers
        server.settimeout(PATIENCE)
        for name, value in {"MODE": "online", "API_KEY": "0" * 40}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        before = set(psutil.Process().children(recursive=True))
        with beside.kept_up(config, run):
            connection, _ = server.accept()  # W&B waits for an answer now
            give_up = time.monotonic() + PATIENCE
            while not tracked_run.written(run, "tensorboard"):
                assert time.monotonic() < give_up
                time.sleep(0.1)
            started = set(psutil.Process().children(recursive=True)) - before
            assert len(started) > 1
            began = time.monotonic()
        assert time.monotonic() - began < 5
        _, alive = psutil.wait_procs(started, PATIENCE)
        assert not alive
        began = time.monotonic()
        found = beside.write_missing(["wandb", "tensorboard"], run, 2.0)
        assert time.monotonic() - began < 10
        connection.close()
    assert found == {"wandb": beside.Outcome("", "it took longer than 2 s")}
    line = f"tracker wandb is not up to date: it took longer than 2 s; try again with: aworld track {run.root}"
    assert capfd.readouterr().err.splitlines() == [f"warning: {line}"]
    assert state.failures(config.trackers, run) == [line]


def test_an_error_of_the_file_system_ends_neither_a_stage_nor_the_process_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tracked_run.make(tmp_path, "trackers=[tensorboard]")
    (run.root / "trackers").write_text("in the way of locks and notes")
    beside.bring_up_to_date(["tensorboard"], run)
    noted = "warning: trackers are not up to date: FileExistsError: "
    assert capfd.readouterr().err.splitlines()[-1].startswith(noted)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        beside.watch(open_run(run.root)[0], run)
    assert pauses == [beside.PAUSE_SECONDS] * 2
    warned = capfd.readouterr().err.splitlines()
    assert len(warned) == 2 and all(line.startswith(noted) for line in warned)


def test_the_priority_is_lowered_once() -> None:
    def apart_twice() -> None:
        beside._apart()
        beside._apart()

    done = subprocess.run(["nice"], preexec_fn=apart_twice, capture_output=True, text=True, check=True)
    assert int(done.stdout) == max(10, os.nice(0))


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    path = state.path_of(run, "tensorboard")
    path.parent.mkdir()
    path.write_text("{")
    mend = f"{path} is damaged (mend: aworld track {run.root} tensorboard --anew)"
    assert beside.write_missing(["tensorboard"], run) == {"tensorboard": beside.Outcome("", mend)}


def test_the_command_says_why_a_tracker_failed_and_mends_it(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    place = run.root / "trackers" / "tensorboard"
    place.parent.mkdir()
    place.write_text("in the way")

    def track(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "aworld", "track", str(run.root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "this run has no trackers; name one" in track().stderr
    failed = track("tensorboard")
    assert failed.returncode == 4 and len(failed.stderr.splitlines()) == 1
    assert "tracker tensorboard is not up to date: NotADirectoryError" in failed.stderr
    place.unlink()
    with try_to_hold(state.lock_of(run, "tensorboard")):
        assert track("tensorboard").stdout == "tensorboard: another process is writing it\n"
    assert track("tensorboard").stdout == "tensorboard: 3 written\n"
    assert track("tensorboard").stdout == "tensorboard: nothing is left to write\n"
    key = json.loads(state.path_of(run, "tensorboard").read_text())["key"]
    assert track("tensorboard", "--anew").stdout == "tensorboard: 3 written\n"
    assert json.loads(state.path_of(run, "tensorboard").read_text())["key"] != key
