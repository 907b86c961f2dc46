"""Programs that use Megatron and start at once: forks of a process that has imported it and has computed nothing.

Each is a process of its own that runs its program from the top. Only the seconds of the imports are spared.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from setproctitle import setproctitle

from aworld.processes import die_with_parent

_FORKS = multiprocessing.get_context("forkserver")
_PR_SET_PTRACER = 0x59616D61
_NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # a fork cannot use the one that it has seen before


def run(
    program: Path, *words: str, variables: Sequence[dict[str, str]] = ({},), tracer: Sequence[str] = ()
) -> list[CompletedProcess[str]]:
    """What copies of a program said, and how each ended; once one has failed the others are killed.

    Args:
        variables: of each copy, beside those of this process.
        tracer: a command that traces the process whose number is added to it. No copy begins before it is traced.
    """
    _start_forks()
    with tempfile.TemporaryDirectory() as folder:
        said = [[Path(folder, f"{number}.{name}") for name in ("out", "error")] for number in range(len(variables))]
        copies = [
            _FORKS.Process(target=_be, args=(program, words, {**os.environ, **_NO_GPU, **own}, files, bool(tracer)))
            for own, files in zip(variables, said, strict=True)
        ]
        for path in chain(*said):
            path.touch()  # also where a copy dies at once
        tracers = []
        try:
            for copy in copies:
                copy.start()
                tracers += [subprocess.Popen([*tracer, str(copy.pid)])] if tracer else []
            alive = {copy.sentinel: copy for copy in copies}
            while alive and not any(copy.exitcode for copy in copies):
                for sentinel in connection.wait(list(alive)):
                    alive.pop(sentinel).join()
        finally:
            for copy in copies:
                copy.kill()
                copy.join()
            for each in tracers:
                each.wait()  # its log is whole then
        return [
            CompletedProcess([str(program), *words], copy.exitcode, *(path.read_text() for path in files))
            for copy, files in zip(copies, said, strict=True)
        ]


def aworld(*words: str, tracer: Sequence[str] = ()) -> CompletedProcess[str]:
    """What the command `aworld WORD …` said. What it starts as another program is no fork."""
    (done,) = run(Path(sys.executable).with_name("aworld"), *words, tracer=tracer)
    return done


def begin(*words: str) -> BaseProcess:
    """`aworld WORD …` in a session of its own, as a shell's foreground starts it; what it says is lost."""
    _start_forks()
    program, nowhere = Path(sys.executable).with_name("aworld"), [Path(os.devnull)] * 2
    process = _FORKS.Process(target=_lead, args=(program, words, {**os.environ, **_NO_GPU}, nowhere))
    process.start()
    return process


def _start_forks() -> None:
    """Start the process that imports and forks, if there is none; this process has one for all programs."""
    _FORKS.set_forkserver_preload(["warm_imports", "warm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")  # no thread before a fork
        for name, value in _NO_GPU.items():
            patch.setenv(name, value)
        forkserver.ensure_running()


def _lead(*arguments: Any) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    _be(*arguments)


def _be(
    program: Path, words: Sequence[str], variables: dict[str, str], said: Sequence[Path], is_traced: bool = False
) -> None:
    """In the fork: become `python PROGRAM WORD …`, with its output in two files."""
    die_with_parent()
    if is_traced:
        _wait_for_a_tracer()
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.argv = [str(program), *words]
    setproctitle(" ".join(sys.argv))  # as long as it finds the environment where Linux put it
    os.environ.clear()
    os.environ.update(variables)
    sys.path.insert(0, str(program.parent))
    runpy.run_path(str(program), run_name="__main__")


def _wait_for_a_tracer() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1))  # else some systems let only ancestors trace
    give_up = time.monotonic() + 60
    while "TracerPid:\t0" in Path("/proc/self/status").read_text():
        assert time.monotonic() < give_up, "no tracer came"
        time.sleep(0.005)
