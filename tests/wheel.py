"""The package as a user has it: its wheel, installed in an environment of its own, outside of any clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("src", "configs", "containers", "sbatch", "pyproject.toml", "README.md", "LICENSE")
COMPILED = shutil.ignore_patterns("__pycache__")


def install(folder: Path) -> None:
    """Build the wheel, and install it into the environment `venv`. The other packages are those of this environment."""
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


@dataclass(frozen=True)
class User:
    """Somebody who has installed the wheel.

    Attributes:
        python: of the environment that holds it.
        home: the folder of the user's own configurations.
        place: where the user works.
    """

    python: Path
    home: Path
    place: Path

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(self.python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        found = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        found |= {"XDG_CONFIG_HOME": str(self.home), "PATH": os.pathsep.join(paths)}
        return found | {"LD_LIBRARY_PATH": f"{sys.prefix}/lib"}  # where this environment has its MPI

    def aworld(self, *words: str) -> str:
        """What `aworld …` prints, once it has succeeded."""
        command = [self.python.with_name("aworld"), *words]
        done = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout
