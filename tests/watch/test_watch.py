"""What a person sees of a run on this machine, and of its jobs."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from unplayed_run import aworld, hold, unplayed_run

from aworld import config as configuration
from aworld import slurm
from aworld.cli import main
from aworld.errors import InfrastructureError
from aworld.publish import append_json, publish_folder, publish_text
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal
from aworld.watch.overview import STOPPED, show_status
from aworld.watch.queue import accounts, queue, submissions
from aworld.watch.watching import watch

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return unplayed_run(tmp_path)


def test_watch_ends_with_the_work(run: RunDir) -> None:
    began = time.monotonic()
    with hold(run, "train", 4):
        done = aworld("watch", str(run.root), "--every", "1")
    assert done.returncode == 11 and "stopped; go on with: aworld resume" in done.stdout
    assert time.monotonic() - began > 4
    assert "Slurm" not in done.stdout


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf"])
def test_no_time_between_two_looks_is_one_line(run: RunDir, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["watch", str(run.root), "--every", seconds]) == 2
    assert f"--every {seconds} is no time between two looks" in " ".join(capsys.readouterr().err.split())


def test_the_brackets_of_a_path_are_no_markup(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    moved = RunDir(run.root.rename(run.root.with_name("[red]run[a, b]")))
    assert show_status(configuration.read(moved.config), moved, Console(width=400)) == STOPPED
    assert capsys.readouterr().out.count(moved.root.name) == 2  # the title, and what to type


def test_status_names_what_a_reward_raised(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    publish_text(run.trajectories(0), "")
    publish_folder(run.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    with Journal(run.round(0) / "journals" / "worker-0.journal") as log:
        for attempt, error in enumerate(["KeyError: 'x'\n(r.py line 3)"] * 2 + ["it did not return"]):
            lost = Episode(0, "a", attempt, 1, "?", [], [], [], [], "x", 0.0, "infra_error", {}, 0, 0)
            log.append(replace(lost, error=f"not scored: {error}"))
        log.append(Episode(0, "a", 3, 1, "?", [], [], [], [], None, 0.0, "infra_error", {}, 0, 0, error="vLLM hung"))
    show_status(configuration.read(run.config), run, Console(width=200))
    line = "cold start: 3 episodes not scored: KeyError: 'x' (r.py line 3) (2 times, and other errors)"
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [{}, {"COLUMNS": "80"}])
def test_status_has_a_line_for_each_part_in_a_pipe_and_at_80_columns(run: RunDir, columns: dict[str, str]) -> None:
    publish_text(run.trajectories(0), "")
    publish_text(run.round(0) / "steps.jsonl", '{"step": 3, "of": 4, "loss": -0.0312}\n')
    publish_folder(run.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    with Journal(run.round(0) / "journals" / "worker-0.journal") as log:
        for task in "ab":
            log.append(Episode(0, task, 0, 1, "?", [], [], [], [], "x", 0.5, "answered", {}, 0, 0))
    env = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | columns
    words = [sys.executable, "-m", "aworld", "status", str(run.root)]
    shown = subprocess.run(words, capture_output=True, text=True, check=False, env=env).stdout.splitlines()
    at = next(number for number, line in enumerate(shown) if line.startswith("cold start"))
    assert shown[at].split() == ["cold", "start", "2", "done", "done", "3", "done", "-0.031", "2", "0.500"]
    assert shown[at + 1].split() == ["held-out-0", "waiting"]
    units = [word for line in shown[:at] for word in line.split()]
    assert {"tasks", "steps", "loss", "episodes", "reward"} <= {*units}


def test_jobs_of_another_folder_are_not_this_runs(run: RunDir, tmp_path: Path) -> None:
    row = {"stage": "train-0001", "elements": [0], "name": "run.train-0001"}
    append_json(run.jobs, row | {"job": "1", "run": str(run.root)})
    append_json(run.jobs, row | {"job": "2"})
    shutil.copytree(run.root, tmp_path / "copy")
    (tmp_path / "link").symlink_to(run.root)
    assert [each.job for each in submissions(run)] == ["1", "2"]
    assert [each.job for each in submissions(RunDir(tmp_path / "link"))] == ["1", "2"]
    assert [each.job for each in submissions(RunDir(tmp_path / "copy"))] == ["2"]
    run.root.rename(tmp_path / "moved")
    assert [each.job for each in submissions(RunDir(tmp_path / "moved"))] == ["2"]


def program(folder: Path, name: str, lines: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


def test_a_squeue_that_prints_something_else_is_one_line(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_json(run.jobs, {"stage": "train-0001", "elements": [0], "name": "run.train-0001", "job": "1"})
    program(tmp_path, "squeue", "echo maintenance until noon")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InfrastructureError, match="squeue printed 'maintenance until noon'"):
        queue(run)
    program(tmp_path, "sacct", "echo maintenance; echo '1|'; echo '2|FAILED'")
    assert accounts(["1", "2"]) == {"2": "FAILED"}


def test_in_a_pipe_a_slurm_that_does_not_answer_is_one_warning(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration.read(run.config)
    config.site.executor, config.site.queue_seconds = "slurm", 1e-3
    append_json(run.jobs, {"stage": "train-0001", "elements": [0], "name": "run.train-0001", "job": "1"})
    answers = ["echo '1|N/A|RUNNING|None|run.train-0001'", *["echo down >&2; exit 1"] * 2, "true"]
    cases = " ".join(f"{at}) {words};;" for at, words in enumerate(answers, 1))
    program(tmp_path, "squeue", f"cd {tmp_path}; echo >> asked; case $(wc -l < asked) in {cases} esac")
    program(tmp_path, "sacct", "true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert watch(config, run, Console(), 0.01) == STOPPED
    assert capsys.readouterr().err.splitlines() == ["warning: squeue failed: down; looking again"]


def test_a_program_of_slurm_that_hangs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.2)
    with pytest.raises(InfrastructureError, match=r"sleep gave no answer within 0\.2 s; try again later"):
        slurm.ask("sleep", "60")
