"""The environment image of this very source, built once from this machine's Debian mirror and kept.

python tests/environment_image.py images/environment.sif    # and a link to it
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from aworld.errors import InputError, guarded
from aworld.launch import images


def environment_image() -> Path:
    """
    Raises:
        InputError: what building it needs is not here.
    """
    for program in ("apptainer", "debootstrap"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise InputError(f"no {program} on PATH; install it with make cluster-packages")
    parts = [images.lock("environment"), *sorted(images.DEFINITIONS.glob("environment.*"))]
    parts.append(images.DEFINITIONS / "install.sh")
    package = images.SOURCE.parent / "aworld"
    parts += sorted((package / "tools").rglob("*.py"))
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    image = data / "aworld" / "images" / f"environment-{key}.sif"
    image.parent.mkdir(parents=True, exist_ok=True)
    with open(image.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            images.build("environment", [f"MIRROR={_debian_mirror()}"], image)
    return image


def _debian_mirror() -> str:
    apt = Path("/etc/apt")
    sources = [apt / "sources.list", *(apt / "sources.list.d").glob("*")]
    text = "\n".join(file.read_text() for file in sources if file.is_file())
    mirror = re.search(r"^(?:URIs:|deb(?: +\[.*?\])?) +(\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    if not mirror:
        raise InputError(
            "this machine's apt names no Debian mirror; build the image with: aworld containers build environment"
        )
    return mirror[1]


def main() -> None:
    link, image = Path(sys.argv[1]), environment_image()
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(image)
    print(f"{link} is there")


if __name__ == "__main__":
    sys.exit(guarded(main))
