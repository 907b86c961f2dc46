"""Where configuration files lie: in the folder of `--configs`, in `~/.config/aworld`, and in the one that aworld ships.

Each has a folder per group: `recipe`, `site`, `model`, `tasks`, `agent`, `hardware`. The first file of a name counts. A
name with a slash, or that ends in `.yaml`, is the path of a file.
"""

import argparse
import os
from pathlib import Path

from aworld.errors import InputError
from aworld.shipped import shipped

CONFIGS = shipped("configs")
KINDS = ("recipe", "site", "model", "tasks", "agent", "hardware")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--configs DIR` to a command that composes a configuration."""
    text = "a folder of your own configuration files, which go before those in ~/.config/aworld and the shipped ones"
    parser.add_argument("--configs", metavar="DIR", type=Path, help=text)


def folders(configs: Path | None = None) -> list[Path]:
    """The folders to look in, in order.

    Args:
        configs: the folder of `--configs`.

    Raises:
        InputError: that folder is not there, or has no folder of a group.
    """
    if configs and not any((configs / kind).is_dir() for kind in KINDS):
        found = "has none of the folders" if configs.is_dir() else "is not there; make it, with one of the folders"
        raise InputError(f"--configs {configs} {found} {', '.join(KINDS)}")
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [*([configs.absolute()] if configs else []), Path(home) / "aworld", CONFIGS]


def find(group: str, name: str, configs: Path | None = None, base: Path = Path()) -> Path:
    """The file of a group that has this name, or this path.

    Args:
        base: the folder that a relative path starts from.

    Raises:
        InputError: there is none; says where it looked, and what is there.
    """
    if found := lookup(group, name, configs, base):
        return found
    if is_path(name):
        raise InputError(f"no {group} '{name}': {_path(name, base)} is not there; mend the path")
    looked = "; ".join(f"{folder / group} {_content(folder / group)}" for folder in folders(configs))
    raise InputError(f"no {group} '{name}'; {looked}; give one of these, or the path of a file")


def lookup(group: str, name: str, configs: Path | None = None, base: Path = Path()) -> Path | None:
    """As `find`; None: there is none."""
    files = [_path(name, base)] if is_path(name) else [at / group / f"{name}.yaml" for at in folders(configs)]
    return next((file for file in files if file.is_file()), None)


def own_file(group: str, name: str, configs: Path | None = None) -> str:
    """The full path of the user's own file of this name; the name itself where aworld ships it, or there is none."""
    file = lookup(group, name, configs)
    is_shipped = file is not None and file.parent.parent == CONFIGS and not is_path(name)
    return name if file is None or is_shipped else str(file)


def names(group: str, configs: Path | None = None) -> str:
    """The names of all files of a group, for a message."""
    return ", ".join(sorted({file.stem for at in folders(configs) for file in (at / group).glob("*.yaml")}))


def is_path(name: str) -> bool:
    """Whether a name is the path of a file."""
    return "/" in name or name.endswith(".yaml")


def short(name: str) -> str:
    """The name of a file that is given by its path; another name as it is."""
    return Path(name).stem if is_path(name) else name


def _path(name: str, base: Path) -> Path:
    return (base / Path(name).expanduser()).absolute()


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "is not there"
    return f"has {', '.join(sorted(file.stem for file in folder.glob('*.yaml'))) or 'none'}"
