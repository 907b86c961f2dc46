"""Task folders in Harbor's format, and a small image for them that holds neither Python nor anything of aworld."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aworld.containers import no_apptainer

PROGRAMS = "bash cat chmod env find head ln ls mkdir mv rm setpriv setsid sh sleep touch".split()
FOLDERS = ("app", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "var/tmp")
TEST = '[ "$(cat /app/sum.txt)" = "$(cat /tests/expected)" ] && echo 1 >/logs/verifier/reward.txt'
SOLUTION = "read a b < /app/data.txt; echo $((a + b)) > sum.txt"


def small_root(root: Path) -> None:
    """Fill a folder with programs of this machine and the libraries that they need: an image as a folder."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program, name
        needed = re.findall(r"(/\S+\.so\S*)", subprocess.run(["ldd", program], capture_output=True, text=True).stdout)
        for source, target in [(program, f"bin/{name}"), *((library, library[1:]) for library in needed)]:
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / target)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "app" / "data.txt").write_text("3 4\n")


def small_image(folder: Path) -> None:
    """Make `small.sif` in a folder, and the same as the folder `root`."""
    if reason := no_apptainer():
        pytest.skip(reason)
    small_root(folder / "root")
    command = ["apptainer", "--quiet", "build", folder / "small.sif", folder / "root"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def write_task(folder: Path, image: Path | None = None, settings: str = "", **files: str) -> Path:
    """Write a task whose right answer is 7 in /app/sum.txt.

    Args:
        settings: of task.toml.
        files: contents in the place of the usual ones: instruction, dockerfile, test, solution.
    """
    for path, text in {
        "task.toml": settings,
        "instruction.md": files.get("instruction", f"Write the sum of data.txt to sum.txt ({folder.name})."),
        "environment/Dockerfile": files.get("dockerfile", "FROM small\nWORKDIR /app\n"),
        "tests/test.sh": files.get("test", TEST),
        "tests/expected": "7\n",
        "solution/solve.sh": files.get("solution", SOLUTION),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    if image:
        (folder / "environment.sif").symlink_to(image)
    return folder
