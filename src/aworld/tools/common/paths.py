"""Paths within the working folder; no link leads out of it."""

from pathlib import Path


def inside(path: str) -> Path:
    """The path within the working folder, whether a file is there or not.

    Raises:
        ValueError: it is not in the working folder.
    """
    root = Path.cwd().resolve()
    file = (root / path).resolve()
    if not file.is_relative_to(root):
        raise ValueError(f"{path[:100]!r} is outside the working folder")
    return file


def existing(path: str) -> Path:
    """The existing file within the working folder.

    Raises:
        ValueError: there is none, or it is not in the working folder.
    """
    try:
        file = inside(path)
        if file.is_file():
            return file
    except (OSError, ValueError, RuntimeError):  # a name that is too long, a NUL or a loop of links in it
        pass
    raise ValueError(f"no file {path[:100]!r}")
