"""Environments of other systems: each rival has one of its own, made once and kept. One that fails is left out."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.locks import hold

ROOT = Path.home() / ".cache" / "aworld-rivals"
SCRIPTS = Path(__file__).parent / "rivals"  # the programs that drive the rivals, in their environments
POLL_SECONDS = 2.0


def environment(name: str, requirements: Sequence[str], root: Path = ROOT) -> Path:
    """The Python of the virtual environment `name`, which has these packages. Other requirements make it anew.

    Args:
        requirements: arguments of `pip install`, such as "ray>=2,<3".

    Raises:
        InfrastructureError: pip could not install them.
    """
    folder, wanted = root / name, "\n".join([sys.version, *requirements])
    made = folder / "requirements.txt"  # written last
    with hold(root / f"{name}.lock", POLL_SECONDS):
        if not made.exists() or made.read_text() != wanted:
            print(f"{name}: installing {' '.join(requirements)} into {folder}, once …", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            _install(folder, requirements)
            made.write_text(wanted)
    return folder / "bin" / "python"


@contextmanager
def left_out(name: str, faults: dict[str, str]) -> Iterator[None]:
    """What a rival does: its failure is printed and noted in `faults`, and the others go on."""
    try:
        yield
    except InfrastructureError as reason:
        faults[name] = str(reason)
        print(f"{name} is left out: {reason}", file=sys.stderr, flush=True)


def version(python: Path, package: str) -> str:
    """`name==version` of a package in such an environment."""
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{package}=={done.stdout.strip()}"


def _install(folder: Path, requirements: Sequence[str]) -> None:
    log = folder / "install.log"
    command = [folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *requirements]
    with log.open("wb") as said:
        done = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise InfrastructureError(f"{folder.name}: pip did not install it: {reason}; see {log}, then run this again")
