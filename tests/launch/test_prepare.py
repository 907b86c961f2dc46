"""A run directory is made, moved, prepared again; its processes are ended."""

import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from hf_folder import hf_folder
from unplayed_run import WORDS, aworld, hold, unplayed_run

from aworld import config as configuration
from aworld.containers import sha256
from aworld.errors import InputError
from aworld.launch import where
from aworld.launch.plan import discard_damaged, plan
from aworld.launch.prepare import prepare, provenance
from aworld.models.positions import positions
from aworld.publish import is_complete, publish_folder, publish_text
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return unplayed_run(tmp_path)


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


def test_the_models_of_a_run_have_the_yarn_that_is_set(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "model", configuration.load(WORDS).model.architecture)
    before = (folder / "config.json").read_text()
    words = [*WORDS, f"runs={tmp_path}", f"model.path={folder}", "training.cold_start.tasks=0"]
    words += ["model.yarn={factor: 2, original_max_position_embeddings: 1024}", "model.shard.max_model_len=2048"]
    run, _ = prepare(configuration.load(words))
    for model in (run.base, run.policy(0)):
        assert positions(json.loads((model / "config.json").read_text())) == 2048
        assert all(file.resolve().parent == folder for file in model.glob("model*"))
    assert (folder / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("source", "given", "absolute"),
    [
        ("verifiers", "quiz-taskset", "quiz-taskset"),
        ("inspect", "package/quiz", "package/quiz"),
        ("inspect", "mine/quiz.py@quiz", "{here}/mine/quiz.py@quiz"),
        ("jsonl", "rows.jsonl", "{here}/rows.jsonl"),
    ],
)
def test_only_paths_of_tasks_are_made_absolute(
    source: str, given: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"tasks.source={source}", f"tasks.path={given}", f"tasks.held_out_path={given}"]
    config = configuration.load([*WORDS, *words, "tasks.python=venv/bin/python", "tasks.image=images/{task}.sif"])
    where.make_absolute(config)
    wanted = absolute.format(here=tmp_path)
    assert (config.tasks.path, config.tasks.held_out_path) == (wanted, wanted)
    assert config.tasks.python == f"{tmp_path}/venv/bin/python"
    assert config.tasks.image == f"{tmp_path}/images/{{task}}.sif"


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


def test_a_run_keeps_the_files_that_it_began_with_and_a_resume_says_so(tmp_path: Path, capsys) -> None:
    reward, rows = tmp_path / "r.py", tmp_path / "q.jsonl"
    reward.write_text("def score(episode, task):\n    return 1.0\n")
    asked = [{"id": name, "question": f"{name}?", "answer": name} for name in "abcdef"]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    model = hf_folder(tmp_path / "model", configuration.load(WORDS).model.architecture)
    words = ["recipe=demo", "site=local", f"runs={tmp_path}/runs", f"model.path={model}", "tasks=jsonl"]
    words += ["training.cold_start.tasks=0", "environment.servers=[python]"]
    own = [f"tasks.path={rows}", "tasks.held_out=2", f"tasks.reward={reward}:score"]
    config = configuration.load([*words, *own])
    run, source = prepare(config)
    copy = run.root / "own" / "r.py"
    first = {task.task_id for task in source.tasks("held_out")}
    assert copy.read_text() == reward.read_text() and len(first) == 2

    reward.write_text("def score(episode, task):\n    return 0.5\n")  # before anything began, it is simply another run
    _, source = prepare(configuration.load([*words, *own]))
    assert copy.read_text() == reward.read_text() and capsys.readouterr().err == ""

    (run.round(1)).mkdir(parents=True)
    reward.write_text("def score(episode, task):\n    raise SystemExit\n")
    rows.write_text(rows.read_text() + '{"id": "g", "question": "g?", "answer": "g"}\n')
    _, source = prepare(configuration.load([*words, *own]))
    assert copy.read_text() == "def score(episode, task):\n    return 0.5\n"
    assert {task.task_id for task in source.tasks("held_out")} == first
    notes = capsys.readouterr().err.splitlines()
    assert [note.split(" since the run began")[0] for note in notes] == [
        f"note: {reward} was edited",
        f"note: {rows} changed",
    ]
    with pytest.raises(
        InputError, match=r"was started with tasks\.reward=.*r\.py:score, now it is exact; leave it out"
    ):
        prepare(configuration.load([*words, *own, "tasks.reward=exact"]))
