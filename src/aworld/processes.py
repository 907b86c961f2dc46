"""Processes that end when they should: none outlives its parent, and each hears when its time is up."""

import ctypes
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

STARTER = "AWORLD_STARTER"
ON_CPU = "AWORLD_VLLM_ON_CPU"  # set for a vLLM that has no GPU
BEHIND = 5  # in Linux's niceness: a third of the share of a process that also wants the core
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_SOON = (signal.SIGUSR1, signal.SIGUSR2)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, however that ends. Fit to be a `preexec_fn`."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_starter() -> None:
    """Die when the process ends whose id is in the variable AWORLD_STARTER, if it is set.

    For programs that may run in a container: Apptainer, between the two, makes Linux forget `die_with_parent`.
    """
    starter = int(os.environ.get(STARTER, 0))

    def follow() -> None:
        with suppress(ProcessLookupError):  # it has ended already
            ended = select.poll()
            ended.register(os.pidfd_open(starter), select.POLLIN)
            ended.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    if starter:
        threading.Thread(target=follow, daemon=True).start()


def end_by_interrupt() -> None:
    """Let TERM and HUP end this process as Ctrl-C does, so that a launcher takes its jobs with it.

    A signal that is ignored, as HUP is under nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def end_with(run: Callable[[], int | None]) -> NoReturn:
    """Call `run` and end this process with its exit code at once, without what Python does at its end.

    gloo may abort a process that ends slowly, where the peer of one of its connections is gone.
    """
    try:
        code = run() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has left
            stream.flush()
    os._exit(code)


def behind(command: Sequence[str]) -> list[str]:
    """The command, with all that it starts behind this process where they share its cores."""
    return ["nice", "-n", str(BEHIND), *command]


class Notice:
    """Notice that this process has to end: soon after USR1 or USR2, now after TERM. Make it in the main thread.

    USR1 and USR2 are blocked here and so, by inheritance, in every process started from now on: Slurm sends a job's
    signal to all processes of its steps, and by default it would kill vLLM and the tool servers.

    Attributes:
        soon: whether any of the signals came.
        now: whether TERM came.
    """

    def __init__(self, tell: Callable[[], None] = lambda: None):
        """`tell` is called after each signal, in any thread."""
        self.soon = self.now = False
        self._tell = tell
        for number in (*_SOON, signal.SIGTERM):  # an older thread, of a library, may not block them
            signal.signal(number, lambda heard, _: self._hear(heard))
        signal.pthread_sigmask(signal.SIG_BLOCK, _SOON)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self._hear(signal.sigwait(_SOON))

    def _hear(self, number: int) -> None:
        self.soon, self.now = True, self.now or number == signal.SIGTERM
        self._tell()
