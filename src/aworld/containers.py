"""How a program of ours runs inside an Apptainer image: the same paths, the same network, the GPUs that are there."""

import sys
from pathlib import Path

from aworld.site import Site

SOURCE = Path(__file__).parents[1]  # this very aworld, also where it is not the installed one
GPU_DRIVER = Path("/dev/nvidiactl")


def inside(site: Site, image: str, argv: list[str], binds: list[Path]) -> list[str]:
    """`argv`, a command of this Python, as it runs in `image`; unchanged where there is no image.

    Args:
        binds: folders it needs, such as the run directory; the site's own are added.
    """
    if not image:
        return argv
    seen = [str(path.resolve()) for path in (SOURCE, *binds)] + site.binds
    if site.bind_python:
        seen += [sys.prefix, sys.base_prefix]
    else:
        argv = ["python3" if word == sys.executable else word for word in argv]
    return [
        *("apptainer", "--quiet", "exec", "--no-home"),
        *(("--nv",) if GPU_DRIVER.exists() else ()),
        *(word for bind in dict.fromkeys(seen) for word in ("--bind", bind)),
        *("--env", f"PYTHONPATH={SOURCE}"),
        image,
        *argv,
    ]
