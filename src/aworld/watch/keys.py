"""Single keys from a terminal, without echo and without Enter."""

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = {b"q": "quit", b"Q": "quit", b"": "quit", b"\t": "next", b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up"}
NAMES |= {b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down"}
NAMES |= {b" ": "page down", b"\x1b[Z": "back", b"\x1b[D": "back", b"\x1b[C": "next"}

KEY = re.compile(
    rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO.|.", re.DOTALL
)  # a command of the terminal, such as an arrow, or a sign

Wait = Callable[[float], str]


@contextmanager
def keys() -> Iterator[Wait]:
    """Yield a function that waits for a key, so many seconds at most, and returns its name; empty: none was pressed.

    The terminal is as it was afterwards. Where stdin is no terminal, the function only waits.
    """
    fd = sys.stdin.fileno()
    if not os.isatty(fd):

        def only_wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield only_wait
        return

    typed: list[bytes] = []  # several keys may come at once

    def wait(seconds: float) -> str:
        if not typed and select.select([fd], [], [], seconds)[0]:
            typed.extend(KEY.findall(os.read(fd, 1024)) or [b""])
        return NAMES.get(typed.pop(0), "") if typed else ""

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield wait
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
