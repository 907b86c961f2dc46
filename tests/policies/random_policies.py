"""Policies of random words, whole and as deltas. As a program it publishes two versions in a run."""

import sys
from pathlib import Path

import numpy as np

from aworld.policies.folder import Deltas
from aworld.policies.writing import Writer
from aworld.publish import begin_folder, finish_folder
from aworld.rundir import RunDir

NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def publish(run: RunDir, writer: Writer, version: int, files: dict[str, np.ndarray], base: int | None = None) -> None:
    """Publish files, given by their words (uint16), as a policy."""
    folder = begin_folder(run.policy(version))
    (folder / "config.json").write_text("{}")
    written = writer.write(folder, version, [(name, words.view(np.uint8)) for name, words in files.items()], base)
    if written.made and base is not None:
        Deltas(base, written.made).write(folder)
    finish_folder(folder, run.policy(version), written.files)


def expected(version: int) -> dict[str, np.ndarray]:
    """The words of each file of a version: a few change from one to the next, and each by a little."""
    rng = np.random.default_rng(0)
    files = {name: rng.integers(0, 2**16, 30_000, np.uint16) for name in NAMES}
    for _ in range(version):
        for words in files.values():
            words[rng.integers(0, len(words), 900)] += 1
    return files


def assert_is(folder: Path, version: int) -> None:
    for name, words in expected(version).items():
        assert (folder / name).read_bytes() == words.tobytes(), name


if __name__ == "__main__":
    run, writer = RunDir(Path(sys.argv[1])), Writer(keeps=True)
    for version in range(2):
        publish(run, writer, version, expected(version), version - 1 if version else None)
