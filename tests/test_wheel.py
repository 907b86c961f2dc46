"""The installed wheel, outside of any clone: it brings its configurations along, and runs with files of one's own."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aworld.publish import is_complete
from aworld.rundir import RunDir

pytestmark = [pytest.mark.engine, pytest.mark.deep]
ROOT = Path(__file__).parents[1]
PARTS = ("src", "configs", "containers", "sbatch", "pyproject.toml", "README.md", "LICENSE")

SITE = """
name: mine
sandbox: subprocess  # this environment shares packages with another one, which a sandbox does not see
rollout: {elements: 1}
evaluate: {elements: 1}
gather: {tasks_per_node: 1}
train: {tasks_per_node: 2}
poll_seconds: 0.2
"""
COMPILED = shutil.ignore_patterns("__pycache__")
ALGORITHM = "from aworld.training.algorithms.grpo import make\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel. The other packages are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in (*PARTS, *(path.name for path in ROOT.glob("*.lock"))):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / "clone" / part, symlinks=True, ignore=COMPILED)
        else:
            shutil.copy(source, folder / "clone" / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "clone"]
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (wheel,) = folder.glob("*.whl")
    made = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", made, "install", "--no-deps", "--no-index", wheel], check=True)
    shutil.rmtree(folder / "clone")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return made


def test_a_cold_start_with_a_site_and_an_algorithm_of_ones_own(python: Path, tmp_path: Path) -> None:
    site = tmp_path / "home" / "aworld" / "site" / "mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text(SITE)
    place = tmp_path / "empty"
    place.mkdir()
    (place / "mine.py").write_text(ALGORITHM)
    paths = [str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path / "home"), "PATH": os.pathsep.join(paths)}
    environment["LD_LIBRARY_PATH"] = f"{sys.prefix}/lib"  # where this environment has its MPI

    def aworld(*words: str) -> str:
        command = [python.with_name("aworld"), *words]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    demo = ["recipe=demo", "site=mine"]
    assert "GPU-hours" in aworld("plan", *demo)
    words = [*demo, "name=first", "training.algorithm=mine.py", "tasks.train=8", "tasks.held_out=2"]
    few = ["pipeline.rounds=0", "pipeline.evaluations=[]", "training.cold_start={tasks: 2, epochs: 1}"]
    assert "would be launched on site 'mine'" in aworld("pipeline", *words, "--dry-run", *few)
    aworld("pipeline", *words, *few)
    run = RunDir(place / "runs" / "first")
    assert is_complete(run.policy(0)) and (run.own / "mine.py").read_text() == ALGORITHM
    assert "finished before: cold start" in aworld("launch", "train", str(run.root), "--round", "0")
    aworld("sbatch", "scripts", "site=example")
    shipped = (ROOT / "sbatch" / "train.sbatch").read_text()
    assert (place / "scripts" / "train.sbatch").read_text() == shipped.replace(".venv/bin/python", str(python))
