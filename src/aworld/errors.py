"""The ways to end early, each with its exit code, and how they are reported to the user."""

import errno
import locale
import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

# Characters that command a terminal: move its cursor, set its title, turn the reading direction.
_COMMANDS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_COMMANDS |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class AWorldError(Exception):
    """A failure reported to the user as one line: what, where, the mend."""

    exit_code = 1


class InputError(AWorldError):
    """The user's input cannot be used: a misspelt key, a missing file."""

    exit_code = 2


class TaskError(AWorldError):
    """The work ran and its outcome is wrong: training diverged, episodes are missing."""

    exit_code = 3


class InfrastructureError(AWorldError):
    """The machine failed, not the work: a shard died, a sandbox did not start. Retried within a cap."""

    exit_code = 4


class Interrupted(AWorldError):  # noqa: N818
    """Told to end before the work was over. Finished work is saved; the same command goes on from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def printable(text: str) -> str:
    """The text with terminal commands escaped: a terminal shows them and does not obey them."""
    return text.translate(_COMMANDS)


def guarded(run: Callable[[], int | None]) -> int:
    """Call `run` and return its exit code. A failure that a user can mend becomes one line on stderr and a code."""
    speak_utf8()
    try:
        return run() or 0
    except AWorldError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(printable(str(error)))}")
        return error.exit_code
    except (Exception, BaseExceptionGroup) as error:
        if not (reason := disk_full(error) or forbidden(error)):
            raise
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(reason)}")
        return InfrastructureError.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def speak_utf8() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has another encoding.

    Then files, pipes and child processes use UTF-8 as well.
    """
    if not sys.flags.utf8_mode and locale.getpreferredencoding(False).lower() not in ("utf-8", "utf8"):
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)


def forbidden(error: BaseException) -> str:
    """A line for the user if permission to read or write a file is missing; "" for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(forbidden, error.exceptions)), "")
    if not isinstance(error, OSError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    mend = "ask its owner for access, or work on a copy of the run"
    return f"{os.strerror(error.errno).lower()}: {error.filename or 'a file'}; {mend}"


def disk_full(error: BaseException) -> str:
    """A line for the user if a full disk or quota caused the error; "" for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(disk_full, error.exceptions)), "")
    for code in (errno.ENOSPC, errno.EDQUOT):
        # libraries wrap it: HDF5 and torch keep only its message
        if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
            place = getattr(error, "filename", None)
            where = f" at {place}" if place else ""
            return f"{os.strerror(code).lower()}{where}; make room, then run the same command again"
    return ""
