"""Trackers beside a stage: they write meanwhile, and one that hangs or fails costs the stage nothing."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tracked_run

from aworld.rundir import open_run
from aworld.trackers import beside, state

pytestmark = pytest.mark.tools


def test_they_write_while_a_stage_runs_and_end_with_it(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path, "trackers=[tensorboard]")
    config, _ = open_run(run.root)
    with beside.kept_up(config, run):
        give_up = time.monotonic() + 60
        while not state.path_of(run, "tensorboard").exists() or tracked_run.written(run, "tensorboard") < 3:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(run.root) in (p.info["cmdline"] or [])]


def test_one_that_hangs_is_ended_and_the_others_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tracked_run.make(tmp_path, "trackers=[wandb,tensorboard]")
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and never answers
        for name, value in {"MODE": "online", "API_KEY": "0" * 40}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        found = beside.bring_up_to_date(["wandb", "tensorboard"], run, 12.0)
        assert time.monotonic() - began < 15
    assert found["tensorboard"] == beside.Outcome("tensorboard: 3 written", "")
    assert found["wandb"].reason == "it took longer than 12 s"
    line = f"tracker wandb is not up to date: it took longer than 12 s; try again with: aworld track {run.root}"
    assert capfd.readouterr().err.splitlines() == [f"warning: {line}"]
    assert state.failures(["wandb", "tensorboard"], run) == [line]


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
    assert "tracker tensorboard is not up to date: FileExistsError" in failed.stderr
    place.unlink()
    assert track("tensorboard").stdout == "tensorboard: 3 written\n"
    assert track("tensorboard").stdout == "tensorboard: nothing is left to write\n"
    key = json.loads(state.path_of(run, "tensorboard").read_text())["key"]
    assert track("tensorboard", "--anew").stdout == "tensorboard: 3 written\n"
    assert json.loads(state.path_of(run, "tensorboard").read_text())["key"] != key
