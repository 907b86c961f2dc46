"""What a user types, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aworld import config as configuration
from aworld.errors import InputError
from aworld.launch import prepare
from aworld.launch.where import check_name

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
        (
            ["jobs/pipeline.py", "recipe=demo", "training.lrr=1"],
            "no key 'training.lrr'; valid: algorithm, options, lr,",
        ),
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
        (
            ["jobs/pipeline.py", "recipe=demo", "site.rollout.elements=0"],
            "site.rollout.elements=0 cannot be",
        ),
        (["jobs/pipeline.py", "recipe=demo", "name=../up"], "name=../up: a name is at most 100 letters"),
        (["jobs/pipeline.py", "recipe=demo", "site.images.environment="], "to empty it: site.images.environment="),
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


def check(*words: str) -> None:
    prepare.check(configuration.load(["recipe=demo", "site=local", "site.sandbox=subprocess", *words]))


@pytest.mark.parametrize("name", ["..", "a:b", "a,b", "100%", "a b", "-a", ".a", "a/b", "a|b", "ü", "x" * 300, "''"])
def test_a_name_that_slurm_or_apptainer_would_misread_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="a name is at most 100 letters"):
        check(f"name={name}")
    with pytest.raises(InputError, match="--name="):
        check_name(name, "--name")


@pytest.mark.parametrize(
    "word", ["elements=-1", "nodes=0", "tasks_per_node=0", "cpus_per_task=0", "minutes=0", "mem_gb=-1.0"]
)
@pytest.mark.parametrize("stage", ["rollout", "gather", "train", "evaluate"])
def test_what_no_job_can_be_is_refused(stage: str, word: str) -> None:
    with pytest.raises(InputError, match=f"site.{stage}.{word} cannot be; it has to be at least"):
        check(f"site.{stage}.{word}")


def test_a_signal_before_the_job_begins_is_refused() -> None:
    slurm = ["site.executor=slurm", "site.signal_seconds=600"]
    check(*slurm, "site.gather.minutes=11")
    with pytest.raises(InputError, match=r"=600 does not fit site.gather.minutes=10, .* 599 at most"):
        check(*slurm, "site.gather.minutes=10")
    check("site.signal_seconds=600", "site.gather.minutes=10")  # nobody sends it here


@pytest.mark.parametrize(("folder", "words", "who"), [
    ("a%b", ["site.executor=slurm"], "Slurm or Apptainer"),
    ("a:b", ["site.images.vllm=vllm.sif", "site.setup=[module load apptainer]"], "Apptainer"),
])  # fmt: skip
def test_a_place_that_they_misread_is_refused(folder: str, words: list[str], who: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{folder}/demo holds .*, which {who} misreads; set runs="):
        check(f"runs={tmp_path}/{folder}", *words)
    check(f"runs={tmp_path}/{folder}")  # plain processes do not


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_locale_that_is_not_utf8_changes_nothing(locale: dict[str, str]) -> None:
    def said(*words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, *words]
        return subprocess.run(command, env=os.environ | env, cwd=ROOT, capture_output=True, timeout=60, check=False)

    for words in (["-m", "aworld", "--help"], ["jobs/pipeline.py", "recipe=demo", "name=é…", "--dry-run"]):
        plain, other = said(*words), said(*words, **locale)
        assert (other.returncode, other.stdout) == (plain.returncode, plain.stdout), other.stderr
        assert other.stderr == plain.stderr


@pytest.mark.parametrize("script", ["pipeline", "rollout", "gather", "train", "evaluate"])
def test_every_launcher_explains_itself(script):
    done = run(f"jobs/{script}.py", "--help")
    assert done.returncode == 0
    assert f"python jobs/{script}.py" in done.stdout
