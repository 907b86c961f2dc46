"""The package as a user has it: its wheel, installed in an environment of its own, outside of any clone."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("src", "configs", "containers", "sbatch", "pyproject.toml", "README.md", "LICENSE")
COMPILED = shutil.ignore_patterns("__pycache__")


def install(folder: Path) -> None:
    """Build the wheel, and install it into the environment `venv`, whose other packages are links to those here."""
    for part in (*PARTS, *(path.name for path in ROOT.glob("*.lock"))):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / "clone" / part, symlinks=True, ignore=COMPILED)
        else:
            shutil.copy(source, folder / "clone" / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "clone"]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    made = folder / "venv" / "bin" / "python"
    shutil.copytree(sys.prefix, folder / "venv", symlinks=True, copy_function=_link)
    subprocess.run([*pip, "--python", made, "install", "--no-deps", "--no-index", wheel], check=True)
    shutil.rmtree(folder / "clone")


def _link(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:  # another file system
        shutil.copy2(source, to)


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

    def aworld(self, *words: str) -> str:
        """What `aworld …` prints, once it has succeeded."""
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        variables |= {"XDG_CONFIG_HOME": str(self.home), "PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        command = [self.python.with_name("aworld"), *words]
        done = subprocess.run(command, cwd=self.place, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout
