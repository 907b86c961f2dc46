"""Build the images that `containers/` defines: through spython, without root, published only when whole.

The `{{ NAME }}` of a definition are given as `NAME=value`, but for those found here: `BASE` (docker://…, or a SIF file)
or `MIRROR` (of Debian) says what the header starts from, `WHEELS` is a folder of wheels, `HERE` is the definitions'
folder, `SOURCE` is this aworld.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TextIO

from aworld.containers import SOURCE, no_apptainer
from aworld.errors import InfrastructureError, InputError
from aworld.publish import publishing
from aworld.shipped import shipped

DEFINITIONS = shipped("containers")
ONLY_SOURCE = "chess"  # plain Python that is published without a wheel
FAST = ("--mksquashfs-args", "-Xcompression-level 1")  # a third of the CPU time for a twelfth more bytes


def names() -> list[str]:
    return sorted(path.stem for path in DEFINITIONS.glob("*.def"))


def build(name: str, assignments: list[str], image: Path, show: Callable[[str], None] = print) -> None:
    """Build `containers/<name>.def` into `image`; `show` gets each line of the build, and so does `<image>.log`.

    Raises:
        InputError: there is no such definition, or a value is missing, or stands for nothing in it.
        InfrastructureError: there is no apptainer, or the build failed.
    """
    if name not in names():
        raise InputError(f"no image '{name}'; valid: {', '.join(names())}")
    definition = DEFINITIONS / f"{name}.def"
    values = build_arguments(definition.read_text(), assignments, name)
    if reason := no_apptainer():
        raise InfrastructureError(reason)
    image.parent.mkdir(parents=True, exist_ok=True)
    place = Path(f"{image}.log")
    with place.open("w") as log, tempfile.TemporaryDirectory() as folder:

        def tell(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            show(line)

        if "WHEELS" not in values:
            values["WHEELS"] = _wheels(name, values, Path(folder) / "wheels", place, tell)
        with publishing(image) as temporary:
            _build(definition, values, temporary, Path(folder), log, tell)


def build_arguments(definition: str, assignments: list[str], name: str) -> dict[str, str]:
    """The value of every `{{ NAME }}` of a definition's text, but for WHEELS where that is not given."""
    given: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not (equals and value):
            raise InputError(f"containers build {name}: '{assignment}' is not NAME=value")
        given[key] = value
    used = set(re.findall(r"{{\s*(\w+)\s*}}", definition))
    starts = ["BASE", "MIRROR"]
    valid = sorted(used - {"BOOTSTRAP", "FROM", "HERE", "SOURCE"} | set(starts))
    if unknown := [key for key in given if key not in valid]:
        raise InputError(f"containers build {name}: nothing is called '{unknown[0]}'; valid: {', '.join(valid)}")
    if sum(start in given for start in starts) != 1:
        raise InputError(
            f"containers build {name}: give BASE=docker://…, BASE=FILE.sif or MIRROR=(a Debian mirror), and only one"
        )
    agent, separator, base = given.pop("BASE", "debootstrap://none").partition("://")
    header = {"BOOTSTRAP": agent, "FROM": base} if separator else {"BOOTSTRAP": "localimage", "FROM": agent}
    sections = re.search(r"^%arguments\n((?:[ \t]+\S.*\n)*)", definition, re.MULTILINE)
    defaults = dict(line.strip().split("=", 1) for line in (sections.group(1) if sections else "").splitlines())
    values = defaults | header | {"HERE": str(DEFINITIONS), "SOURCE": str(SOURCE.parent)} | given
    if missing := used - values.keys() - {"WHEELS"}:
        raise InputError(f"containers build {name}: no value for {', '.join(sorted(missing))}")
    return {key: value for key, value in values.items() if key in used}


def lock(name: str) -> Path:
    """The file with the versions of an image's packages. Sandboxes without an image have those of the CPU lock."""
    return shipped(f"requirements-{'cpu' if name == 'environment' else 'gpu'}.lock")


def packages(name: str, from_mirror: bool) -> list[str]:
    """pip's arguments that name the packages of an image, with their versions.

    `<name>.txt` is complete on a base. A Debian mirror lacks what such a base brings: `<name>.base.txt` has its names,
    and pip adds the packages that they require.
    """
    listed, base = DEFINITIONS / f"{name}.txt", DEFINITIONS / f"{name}.base.txt"
    whole = ["-r", str(base)] if from_mirror and base.exists() else ["--no-deps", f"--no-binary={ONLY_SOURCE}"]
    return ["-r", str(listed), *whole, "-c", str(lock(name))]


def _wheels(name: str, values: dict[str, str], folder: Path, log: Path, tell: Callable[[str], None]) -> str:
    """A folder of the wheels of an image, made by this machine's pip from wherever it takes packages."""
    tell("collecting wheels …")
    pip = [sys.executable, "-m", "pip"]
    download = [*pip, "download", "--dest", str(folder), "--no-cache-dir", "--python-version", values["PYTHON"]]
    download += ["--only-binary=:all:", *packages(name, from_mirror=values["BOOTSTRAP"] == "debootstrap")]
    done = subprocess.run(download, capture_output=True, text=True, check=False)
    sources = list(folder.glob("*.tar.gz"))
    if sources and not done.returncode:
        make = [*pip, "wheel", "--wheel-dir", str(folder), "--no-deps", *map(str, sources)]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
    if done.returncode:
        for line in done.stderr.splitlines():
            tell(line)
        raise InfrastructureError(f"pip could not collect the wheels of {name}; see {log}")
    return str(folder)


def _build(
    definition: Path, values: dict[str, str], image: Path, folder: Path, log: TextIO, tell: Callable[[str], None]
) -> None:
    from spython.main import Client

    options = ["--fakeroot", *FAST, *(word for item in values.items() for word in ("--build-arg", "=".join(item)))]
    with _singularity(folder), redirect_stderr(log):  # spython prints there what it did not read
        recipe, target = str(definition), str(image)
        _, lines = Client.build(recipe, target, sudo=False, options=options, stream=True, force=True, quiet=True)
        last = ""
        try:
            for line in lines:
                last = line.rstrip() or last
                tell(line.rstrip())
        except subprocess.CalledProcessError:
            raise InfrastructureError(f"building {definition.stem} failed: {last}; see {log.name}") from None


@contextmanager
def _singularity(folder: Path) -> Iterator[None]:
    """On PATH a `singularity`, the one name spython calls; it writes to one stream, as spython reads but one."""
    program = folder / "singularity"
    program.write_text('#!/bin/sh\nexec apptainer "$@" 2>&1\n')
    program.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
