"""`aworld` in a terminal of its own: what it shows there, what it is typed, and how it leaves the terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from types import TracebackType

ALTERNATE, NORMAL, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
HOME, STYLE_END = "\x1b[H", "\x1b[0m"
COMMAND = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """`aworld` with these arguments, in a terminal of so many columns and rows."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 24):
        self._written, self._code = b"", None
        self.pid, self._fd = pty.fork()
        if not self.pid:
            env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
            # It begins once the terminal has its size.
            command = [sys.executable, "-c", "import time; time.sleep(0.2); from aworld.cli import main; exit(main())"]
            os.execve(sys.executable, [*command, *arguments], env | {"TERM": "xterm-256color"})
        self._rows = rows
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._before = termios.tcgetattr(self._fd)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._code is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """Read until the text is on the page; returns the page."""
        give_up = time.monotonic() + seconds
        while text not in self.page:
            assert time.monotonic() < give_up, f"no '{text}' in:\n{self.page}"
            assert self._read() or text in self.page, f"ended without '{text}':\n{self.page}"
        return self.page

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def restored(self, seconds: float) -> bool:
        """Whether the program gives the screen back within so many seconds."""
        give_up = time.monotonic() + seconds
        while NORMAL not in self.shown and time.monotonic() < give_up:
            self._read()
        return NORMAL in self.shown

    def end(self) -> int:
        """The exit code, once the program has ended. The terminal is as it was before it."""
        while self._read():
            pass
        self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert termios.tcgetattr(self._fd) == self._before
        assert self.shown.count(ALTERNATE) == self.shown.count(NORMAL) == 1
        assert self.shown.rindex(CURSOR) > self.shown.index(ALTERNATE)
        return self._code

    @property
    def shown(self) -> str:
        """All that it wrote so far."""
        return self._written.decode(errors="replace")

    @property
    def page(self) -> str:
        """The text of the last whole page, without colours; empty before there is one."""
        pages = self.shown.partition(NORMAL)[0].split(HOME)[1:]
        whole = (page for page in reversed(pages) if page.count("\n") == self._rows - 1 and page.endswith(STYLE_END))
        return COMMAND.sub("", next(whole, "")).replace("\r", "")

    @property
    def afterwards(self) -> str:
        """What it left on the normal screen."""
        return COMMAND.sub("", self.shown.partition(NORMAL)[2]).replace("\r", "")

    def _read(self) -> bool:
        """Take what it wrote, for a moment at most; False: it has closed the terminal."""
        if not select.select([self._fd], [], [], 0.05)[0]:
            return True
        try:
            found = os.read(self._fd, 1 << 16)
        except OSError:  # as Linux says that nobody has the terminal open any more
            return False
        self._written += found
        return bool(found)
