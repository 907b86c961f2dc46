"""What a person sees of a run on this machine, and how it is ended."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from hf_folder import hf_folder
from rich.console import Console

from aworld import config as configuration
from aworld.containers import sha256
from aworld.errors import InfrastructureError
from aworld.launch import slurm
from aworld.launch.overview import STOPPED, show_status
from aworld.launch.plan import discard_damaged, plan
from aworld.launch.prepare import prepare, provenance
from aworld.publish import append_json, is_complete, publish_folder, publish_text
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit

WORDS = ["recipe=demo", "site=local", "tasks.train=4", "tasks.held_out=2", "training.cold_start.tasks=2"]
HOLDER = """
    import sys, time
    from pathlib import Path
    from aworld.locks import sole_holder
    with sole_holder(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    model = hf_folder(
        tmp_path / "model", configuration.load(WORDS).model.architecture
    )  # nobody gets so far as to load it
    config = configuration.load([*WORDS, f"runs={tmp_path}", "name=run", f"model.path={model}"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    return run


def hold(run: RunDir, name: str, seconds: float = 60) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run.lock(name)), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def aworld(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "aworld", *words], capture_output=True, text=True, check=False)


def test_watch_ends_with_the_work(run: RunDir) -> None:
    began = time.monotonic()
    with hold(run, "train", 4):
        done = aworld("watch", str(run.root), "--every", "1")
    assert done.returncode == 11 and "stopped; go on with: aworld resume" in done.stdout
    assert time.monotonic() - began > 4
    assert "Slurm" not in done.stdout


def test_the_brackets_of_a_path_are_no_markup(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    moved = RunDir(run.root.rename(run.root.with_name("[red]run[a, b]")))
    assert show_status(configuration.read(moved.config), moved, Console(width=400)) == STOPPED
    assert capsys.readouterr().out.count(moved.root.name) == 2  # the title, and what to type


def test_cancel_ends_whoever_works_on_the_run(run: RunDir) -> None:
    with hold(run, "rollout-0") as worker, hold(run, "launcher") as launcher:
        done = aworld("cancel", str(run.root))
        assert done.returncode == 0 and done.stdout.strip() == "cancelled launcher, rollout-0"
        assert (worker.wait(10), launcher.wait(10)) == (-15, -15)
    assert aworld("cancel", str(run.root)).stdout.strip() == "no job of this run waits or runs"


def test_cancel_says_on_which_node_the_run_is_at_work(run: RunDir) -> None:
    """As on login2, for a run started on login1, where the file system shares its locks."""
    with hold(run, "launcher") as launcher:
        run.lock("launcher").write_text(f"login1 {launcher.pid}")
        done = aworld("cancel", str(run.root))
        assert done.returncode == 4 and f"process {launcher.pid} is at work on node login1" in done.stderr
        assert launcher.poll() is None
        launcher.kill()


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
    assert shown[at].split() == ["cold", "start", "2", "done", "done", "3", "done", "-0.031", "2", "done", "0.500"]
    assert shown[at + 1].split() == ["held-out-0", "waiting"]
    units = [word for line in shown[:at] for word in line.split()]
    assert {"tasks", "steps", "loss", "episodes", "reward"} <= {*units}


def test_the_version_is_known() -> None:
    assert aworld("--version").stdout == f"aworld {importlib.metadata.version('aworld-slurm')}\n"


def test_a_second_launcher_is_told_of_the_first(run: RunDir) -> None:
    with hold(run, "launcher") as launcher:
        done = aworld("resume", str(run.root))
        launcher.kill()
    assert done.returncode == 4
    assert f"process {launcher.pid} on node {os.uname().nodename} is already doing this work" in done.stderr


def test_the_folder_that_is_given_is_the_run(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, copied, by a link, or from inside; its configuration still has its first name."""
    moved = run.root.rename(tmp_path / "keep")
    (tmp_path / "link").symlink_to(moved)
    monkeypatch.chdir(moved)
    for folder in (Path(), moved, tmp_path / "link", Path("..") / "keep"):
        config, _ = open_run(folder)
        assert RunDir.of(config).root == moved
    again, _ = prepare(config)
    assert again.root == moved and configuration.read(again.config).name == "keep"
    assert not run.root.exists()


PREPARE = """
    import sys
    from aworld import config
    from aworld.errors import guarded
    from aworld.launch.prepare import prepare
    settings = config.load(sys.argv[1:])
    print("ready", flush=True)
    sys.stdin.readline()
    def main():
        prepare(settings)
    sys.exit(guarded(main))
"""


def test_several_launchers_may_prepare_a_new_run_at_once(tmp_path: Path) -> None:
    hf_folder(tmp_path / "model", configuration.load(WORDS).model.architecture)
    words = [*WORDS, f"runs={tmp_path}", "name=run", f"model.path={tmp_path}/model", "training.cold_start.tasks=0"]
    command = [sys.executable, "-c", textwrap.dedent(PREPARE), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    launchers = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for each in launchers:
        assert each.stdout.readline() == "ready\n"
    for each in launchers:
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.communicate()[1] for each in launchers] == [""] * 4
    assert is_complete(tmp_path / "run" / "tasks") and is_complete(tmp_path / "run" / "policies" / "0000")


def test_paths_of_a_run_are_those_of_the_folder_it_was_made_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_folder(tmp_path / "model", configuration.load(WORDS).model.architecture)
    (tmp_path / "image.sif").write_bytes(b"an image")
    words = [*WORDS, f"runs={tmp_path}/runs", "model.path=model", "site.images.environment=image.sif"]
    words.append("site.setup=[module load apptainer]")
    monkeypatch.chdir(tmp_path)
    run, _ = prepare(configuration.load(words))
    prepare(configuration.load(words))  # the same line again
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    config, _ = open_run(run.root)
    assert config.site.images.environment == f"{tmp_path}/image.sif"
    prepare(config)


def test_jobs_of_another_folder_are_not_this_runs(run: RunDir, tmp_path: Path) -> None:
    row = {"stage": "train-0001", "elements": [0], "name": "run.train-0001"}
    append_json(run.jobs, row | {"job": "1", "run": str(run.root)})
    append_json(run.jobs, row | {"job": "2"})
    shutil.copytree(run.root, tmp_path / "copy")
    (tmp_path / "link").symlink_to(run.root)
    assert [each.job for each in slurm.submissions(run)] == ["1", "2"]
    assert [each.job for each in slurm.submissions(RunDir(tmp_path / "link"))] == ["1", "2"]
    assert [each.job for each in slurm.submissions(RunDir(tmp_path / "copy"))] == ["2"]
    run.root.rename(tmp_path / "moved")
    assert [each.job for each in slurm.submissions(RunDir(tmp_path / "moved"))] == ["2"]


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
        slurm.queue(run)
    program(tmp_path, "sacct", "echo maintenance; echo '1|'; echo '2|FAILED'")
    assert slurm.accounts(["1", "2"]) == {"2": "FAILED"}


def test_a_program_of_slurm_that_hangs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.2)
    with pytest.raises(InfrastructureError, match=r"sleep gave no answer within 0\.2 s; try again later"):
        slurm.ask("sleep", "60")


def test_only_the_policy_that_is_played_next_is_read_and_made_anew(run: RunDir, capsys) -> None:
    words = ["site.executor=slurm", "pipeline.rounds=3"]
    config = configuration.changed(configuration.read(run.config), words)
    workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    for version in range(3):
        publish_folder(run.policy(version), lambda folder: (folder / "model.safetensors").write_bytes(b"weights"))
        if version:
            publish_text(run.trajectories(version), "")
    for version in (1, 2):
        (run.policy(version) / "model.safetensors").write_bytes(b"wEights")
    assert "train-0002" not in {stage.name for stage in plan(config, run, workloads)}
    discard_damaged(run, workloads)
    assert f"{run.policy(2)} is damaged (model.safetensors); removed" in capsys.readouterr().err
    assert not run.policy(2).exists() and is_complete(run.policy(1))
    stages = {stage.name: stage for stage in plan(config, run, workloads)}
    assert "train-0002" in stages["rollout-0003"].after


def test_the_images_of_a_run_are_in_its_provenance(run: RunDir, tmp_path: Path) -> None:
    image = tmp_path / "environment.sif"
    image.write_bytes(b"an image")
    config = configuration.changed(configuration.read(run.config), [f"site.images.environment={image}"])
    found = yaml.safe_load(yaml.safe_dump(provenance(config)))
    assert found["environment.sif"] == sha256(image) and "vllm.sif" not in found
