"""What a user types, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_a_dry_run_prints_the_configuration_and_the_jobs_and_leaves_nothing(tmp_path):
    words = ["recipe=demo", "site=local", f"runs={tmp_path}", "training.lr=0.5", "tasks.train=600"]
    done = run("jobs/pipeline.py", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    config, _, jobs = done.stdout.partition("# would be launched")
    values = yaml.safe_load(config)
    assert values["training"]["lr"] == 0.5 and values["model"]["parallel"]["tensor_model_parallel_size"] == 2
    for words in ("rollout", "--worker 0", "--worker 1", f"train {tmp_path}/demo"):
        assert words in jobs
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["jobs/pipeline.py", "recipe=demo", "training.lrr=1"], "no key 'training.lrr'; valid: algorithm, lr,"),
        (["jobs/pipeline.py", "recipe=dmo"], "no recipe 'dmo'"),
        (["jobs/pipeline.py", "recipe=demo", "training.lr=fast"], "training.lr"),
        (["jobs/pipeline.py", "recipe=demo", "training.algorithm=ppo", "--dry-run"], "valid: cispo, dapo,"),
        (
            ["jobs/pipeline.py", "recipe=demo", "site.executor=ray"],
            "site.executor=ray is not there; valid: local, slurm",
        ),
        (["jobs/pipeline.py", "recipe=demo", "pipeline.mode=both"], "no such mode; valid: batch, resident"),
        (["jobs/pipeline.py", "recipe=demo", "pipeline.mode=batch"], "pipeline.mode=batch needs Slurm's"),
        (
            ["jobs/pipeline.py", "recipe=demo", "model.parallel.tensor_model_parallel_size=0", "--dry-run"],
            "model.parallel.tensor_model_parallel_size=0 cannot be; it has to be at least 1",
        ),
        (["jobs/train.py", "/nowhere", "--round", "1"], "/nowhere/run.yaml is not there"),
        (["-m", "aworld", "status", "/nowhere"], "/nowhere/run.yaml is not there"),
        (["-m", "aworld", "show", "/nowhere", "1/a/0"], "/nowhere/run.yaml is not there"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message):
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("words", [["site=test-cluster"], ["site=local", "site.images.environment=image.sif"]])
def test_images_without_apptainer_are_refused_before_anything_is_there(words, tmp_path):
    env = {**os.environ, "PATH": str(tmp_path)}
    words = [sys.executable, "jobs/pipeline.py", "recipe=demo", f"runs={tmp_path}/runs", *words]
    done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no apptainer on PATH; load its module" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", ["pipeline", "rollout", "gather", "train", "evaluate"])
def test_every_launcher_explains_itself(script):
    done = run(f"jobs/{script}.py", "--help")
    assert done.returncode == 0
    assert f"python jobs/{script}.py" in done.stdout
