"""The user's own parts, by name: `/path/file.py:NAME`, or an entry point of an installed package.

A run keeps a copy of each file in its folder `own`, so that it does not change when the user edits the file.
"""

import importlib.metadata
import json
import sys
import traceback
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from aworld.config.walk import every_setting
from aworld.errors import AWorldError, InputError
from aworld.publish import publish_json, publishing

FOLDER = "own"  # of the copies, in the folder of a run or of a benchmark
SETTINGS = ("source", "reward", "player", "algorithm")  # the last words of settings that name a part
FILES = "files.json"  # in it: by the path of each file, the name and the sha256 of its copy


def load(name: str, *, setting: str, group: str, copies: Path | None = None, default: str = "") -> Any:
    """The object of this name: of a file, or an entry point.

    Args:
        name: `/path/file.py:NAME`, or the name of an entry point.
        default: NAME where only `/path/file.py` is given; empty: it has to be given.
        setting: the full name of the setting that says so, such as tasks.source.
        group: of the entry points, such as aworld.tasks.
        copies: the folder that `keep` filled; the copy of a file in there is loaded in the place of the file.

    Raises:
        InputError: there is no such file or entry point, it cannot be imported, or it has no object of that name.
    """
    if not is_file(name):
        return _entry_point(name, setting, group)
    path, attribute = _split(name)
    attribute = attribute or default
    if not attribute.isidentifier():
        raise InputError(f"{setting}={name}: name what the file holds: {path}:NAME")
    module = _module(path, copy_of(path, copies) or path, f"{setting}={name}")
    if not hasattr(module, attribute):
        has = ", ".join(word for word in vars(module) if not word.startswith("_")) or "nothing"
        raise InputError(f"{setting}={name}: {path} has no {attribute}; it has {has}")
    return getattr(module, attribute)


def is_file(name: str) -> bool:
    """Whether the name is one of a file, rather than of an entry point."""
    return name.rpartition(":")[0].endswith(".py") or name.endswith(".py")


def absolute(name: str) -> str:
    """The name with the full path of its file; another name as it is."""
    if not is_file(name):
        return name
    path, attribute = _split(name)
    return f"{path}:{attribute}" if attribute else str(path)


def entry_points(group: str) -> list[str]:
    """The names of the entry points of a group."""
    return sorted({one.name for one in importlib.metadata.entry_points(group=group)})


def named(config: Any) -> dict[str, str]:
    """The files that a configuration, a dataclass of the schema, names, by the full names of the settings."""
    values = {one.name: one.value for one in every_setting(config) if one.name.rpartition(".")[2] in SETTINGS}
    return {name: value for name, value in values.items() if is_file(value)}


def keep(names: Mapping[str, str], copies: Path) -> list[str]:
    """Copy the file of each name into `copies`, once. Names of entry points are left out.

    Args:
        names: by the full name of the setting.

    Returns:
        A line for each file that was edited since, or is gone: the copy stays as it is.

    Raises:
        InputError: a file that has no copy yet is not there.
    """
    lines = []
    files = _files(copies)
    for setting, name in names.items():
        if not is_file(name):
            continue
        path, _ = _split(name)
        if str(path) not in files:
            content = _read(path, f"{setting}={name}")
            files[str(path)] = {"copy": _free(path, files), "sha256": sha256(content).hexdigest()}
            with publishing(copies / files[str(path)]["copy"]) as temporary:
                temporary.write_bytes(content)
            publish_json(copies / FILES, files)
        elif not path.is_file() or sha256(path.read_bytes()).hexdigest() != files[str(path)]["sha256"]:
            was = "was edited" if path.is_file() else "is gone"
            lines.append(
                f"{path} {was} since the run began; the run goes on with its copy "
                f"{copies / files[str(path)]['copy']}; to use the edit, begin another run with name=…"
            )
    return lines


def copy_of(path: Path, copies: Path | None) -> Path | None:
    """The full path of the copy of a file; None: there is none."""
    found = _files(copies).get(str(_full(path))) if copies else None
    return _full(copies) / found["copy"] if copies and found else None


def _files(copies: Path) -> dict[str, dict[str, str]]:
    file = copies / FILES
    found: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _free(path: Path, files: dict[str, dict[str, str]]) -> str:
    """A name for the copy of a file that no other copy has."""
    used = {one["copy"] for one in files.values()}
    names = (f"{path.stem}{f'-{number}' if number > 1 else ''}.py" for number in range(1, len(files) + 2))
    return next(name for name in names if name not in used)


def _full(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _split(name: str) -> tuple[Path, str]:
    """The full path of the file, and the NAME; empty: there is none."""
    path, _, attribute = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    return _full(path), attribute


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); mend the path") from None


def _module(path: Path, copy: Path, where: str) -> ModuleType:
    """The module of a file. Its `__file__` is the user's own file, so that it finds what lies beside it."""
    source = _read(copy, where)
    module = ModuleType(f"own_{path.stem}_{zlib.crc32(str(copy).encode()):08x}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{where}: {path}{_line(error, path)}: {type(error).__name__}: {error}; mend the file"
        ) from error
    return module


@contextmanager
def named_failure(where: str, name: str) -> Iterator[None]:
    """Make one line of what the part of this name raises: an InputError that says where. Those of aworld pass."""
    try:
        yield
    except AWorldError:
        raise
    except Exception as error:
        path = _split(name)[0] if is_file(name) else Path(name)
        raise InputError(
            f"{where}: {path}{_line(error, path)}: {type(error).__name__}: {error}; mend the file"
        ) from error


def _line(error: BaseException, path: Path) -> str:
    """The line of the file where the error was raised, in words."""
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}" if lines else ""


def _entry_point(name: str, setting: str, group: str) -> Any:
    found = [one for one in importlib.metadata.entry_points(group=group) if one.name == name]
    if not found:
        valid = ", ".join(entry_points(group)) or "none is installed"
        raise InputError(
            f"{setting}={name}: no entry point of that name in {group} ({valid}); for a file, give /path/file.py:NAME"
        )
    try:
        return found[0].load()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{setting}={name}: {found[0].value}: {type(error).__name__}: {error}; mend the package"
        ) from error
