"""Programs that use Megatron and start at once: forks of a process that has imported it and has computed nothing.

Each is a process of its own that runs its program from the top. Only the seconds of the imports are spared.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain
from multiprocessing import connection, forkserver
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from aworld.processes import die_with_parent

_FORKS = multiprocessing.get_context("forkserver")
_NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # a fork cannot use the one that it has seen before


def run(program: Path, *words: str, variables: Sequence[dict[str, str]] = ({},)) -> list[CompletedProcess[str]]:
    """What copies of a program said, and how each ended; once one has failed the others are killed.

    Args:
        variables: of each copy, beside those of this process.
    """
    _start_forks()
    with tempfile.TemporaryDirectory() as folder:
        said = [[Path(folder, f"{number}.{name}") for name in ("out", "error")] for number in range(len(variables))]
        copies = [
            _FORKS.Process(target=_be, args=(program, words, {**os.environ, **_NO_GPU, **own}, files))
            for own, files in zip(variables, said, strict=True)
        ]
        for path in chain(*said):
            path.touch()  # also where a copy dies at once
        try:
            for copy in copies:
                copy.start()
            alive = {copy.sentinel: copy for copy in copies}
            while alive and not any(copy.exitcode for copy in copies):
                for sentinel in connection.wait(list(alive)):
                    alive.pop(sentinel).join()
        finally:
            for copy in copies:
                copy.kill()
                copy.join()
        return [
            CompletedProcess([str(program), *words], copy.exitcode, *(path.read_text() for path in files))
            for copy, files in zip(copies, said, strict=True)
        ]


def aworld(*words: str) -> CompletedProcess[str]:
    """What the command `aworld WORD …` said. Only the command itself is a fork: what it starts, as ranks, is not."""
    (done,) = run(Path(sys.executable).with_name("aworld"), *words)
    return done


def _start_forks() -> None:
    """Start the process that imports and forks, if there is none; this process has one for all programs."""
    _FORKS.set_forkserver_preload(["warm_imports", "warm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")  # no thread before a fork
        for name, value in _NO_GPU.items():
            patch.setenv(name, value)
        forkserver.ensure_running()


def _be(program: Path, words: Sequence[str], variables: dict[str, str], said: list[Path]) -> None:
    """In the fork: become `python PROGRAM WORD …`, with its output in two files."""
    die_with_parent()
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [str(program), *words]
    sys.path.insert(0, str(program.parent))
    runpy.run_path(str(program), run_name="__main__")
