"""The HF folder that a policy stands for, written to another place: read once, in order, and verified on the way."""

import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from aworld.errors import InfrastructureError
from aworld.policies import delta
from aworld.policies.folder import SUFFIX, chain, contents, damaged, deltas_in
from aworld.rundir import RunDir

MOST_THREADS = 32  # each reads a file of its own


def copy_policy(run: RunDir, version: int, folder: Path, copies: Mapping[int, Path] | None = None) -> None:
    """Fill an empty folder with the files of a complete policy, whole and with sound checksums.

    Args:
        copies: folders of whole policies that are nearer, by version. Deltas are applied to the nearest of them.

    Raises:
        InfrastructureError: a file is damaged, or a base of the deltas is gone.
        OSError: the folder cannot be filled.
    """
    versions = chain(run, version)
    files = contents(run.policy(version))

    def copy(name: str) -> bool:
        source, deltas = _sources(run, version, name, copies or {})
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return _join(source, deltas, folder / name) == files[name]

    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        wrong = [name for name, is_sound in zip(files, threads.map(copy, files), strict=True) if not is_sound]
    if not wrong:
        return
    if copies:  # one of them may be what is damaged
        copy_policy(run, version, folder)
        return
    for each in versions:
        if names := damaged(run, each):
            wrong, version = names, each
            break
    raise InfrastructureError(
        f"{run.policy(version)} is damaged ({', '.join(wrong)}) and not used; remove the folder, then: aworld resume "
        f"{run.root}"
    )


def _sources(run: RunDir, version: int, name: str, copies: Mapping[int, Path]) -> tuple[Path, list[Path]]:
    """The whole file that a policy's file is made from, and the deltas to apply, the first one first."""
    paths: list[Path] = []
    while True:
        folder = run.policy(version)
        if version in copies and (copies[version] / name).exists():
            return copies[version] / name, paths
        deltas = deltas_in(folder)
        if deltas is None or name not in deltas.files:
            return folder / name, paths
        paths.insert(0, folder / (name + SUFFIX))
        version = deltas.base


def _join(source: Path, deltas: list[Path], target: Path) -> dict[str, int]:
    """Write a file with the deltas applied; returns its `size` and `crc32`, nothing where a delta does not fit."""
    size = crc32 = 0
    buffer = memoryview(bytearray(delta.BLOCK))
    with ExitStack() as stack:
        base, *records = [stack.enter_context(open(path, "rb")) for path in (source, *deltas)]
        out = stack.enter_context(open(target, "wb"))
        while count := base.readinto(buffer):
            block = buffer[:count]
            try:
                for file in records:
                    delta.apply(delta.read(file), np.frombuffer(block, np.uint8))
            except delta.DamagedError:
                return {}
            out.write(block)
            size, crc32 = size + count, zlib.crc32(block, crc32)
    return {"size": size, "crc32": crc32}
