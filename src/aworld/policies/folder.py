"""The folder of a policy: an HF folder, or one whose weights are deltas to those of the version before.

Each file NAME of weights is there itself, or as NAME.delta. Then `deltas.json` names the base, and the size and CRC-32
of each file that comes out. Everything else, such as config and tokenizer, is always there.
"""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.publish import Sums, is_complete, marked_files
from aworld.publish import damaged as damaged_files
from aworld.rundir import RunDir

DELTAS = "deltas.json"
SUFFIX = ".delta"


@dataclass(frozen=True)
class Deltas:
    """What `deltas.json` holds.

    Attributes:
        base: the version that the deltas apply to.
        files: the files that they make, by name: `size` and `crc32`, and `base_crc32`, that of the base's file.
    """

    base: int
    files: Sums

    def write(self, folder: Path) -> None:
        (folder / DELTAS).write_text(json.dumps(asdict(self), indent=1) + "\n")


def deltas_in(folder: Path) -> Deltas | None:
    """The deltas in a policy's folder; None where it is an HF folder.

    Raises:
        InfrastructureError: `deltas.json` is damaged.
    """
    try:
        found = json.loads((folder / DELTAS).read_text())
        return Deltas(int(found["base"]), dict(found["files"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise InfrastructureError(f"{folder / DELTAS} is damaged; remove {folder}, then: aworld resume RUN") from None


def contents(folder: Path) -> Sums:
    """The files of a complete policy, as the HF folder that it stands for."""
    deltas = deltas_in(folder)
    if deltas is None:
        return marked_files(folder)
    made = {name: {"size": sums["size"], "crc32": sums["crc32"]} for name, sums in deltas.files.items()}
    beside = {DELTAS, *(name + SUFFIX for name in made)}
    return made | {name: sums for name, sums in marked_files(folder).items() if name not in beside}


def bases(run: RunDir, version: int) -> list[int]:
    """The older versions whose files a policy needs beside its own, the whole one first; none where it is whole."""
    found: list[int] = []
    while deltas := deltas_in(run.policy(found[0] if found else version)):
        found.insert(0, deltas.base)
    return found


def chain(run: RunDir, version: int) -> list[int]:
    """The versions whose folders are read for a policy, the whole one first, `version` last.

    Raises:
        InfrastructureError: one of them is not there, or is not the one that the next was made from.
    """
    versions = [*bases(run, version), version]
    for base, later in pairwise(versions):
        there = contents(run.policy(base)) if is_complete(run.policy(base)) else {}
        deltas = deltas_in(run.policy(later))
        assert deltas
        if any(name not in there or there[name]["crc32"] != made["base_crc32"] for name, made in deltas.files.items()):
            raise InfrastructureError(
                f"policy {later} is a delta to policy {base}, which is gone or was made anew; remove "
                f"{run.policy(later)}, then: aworld resume {run.root}"
            )
    return versions


def damaged(run: RunDir, version: int) -> list[str]:
    """What is wrong with a complete policy: its files that changed, or the base that its deltas lack."""
    return damaged_files(run.policy(version)) or broken_chain(run, version)


def broken_chain(run: RunDir, version: int) -> list[str]:
    """`deltas.json`, where a base of a complete policy is gone or was made anew; else nothing. Reads no weight."""
    try:
        chain(run, version)
    except InfrastructureError:
        return [DELTAS]
    return []
