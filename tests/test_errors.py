"""How failures reach a person."""

import errno
import os

import pytest

from aworld.errors import guarded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_touched_is_one_line(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        try:
            raise OSError(code, os.strerror(code), "runs/x/report.html")
        except OSError as error:
            raise ExceptionGroup("of a worker", [error]) from None

    assert guarded(write) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {os.strerror(code).lower()}: runs/x/report.html; ask its owner for access")


def test_another_fault_of_the_system_keeps_its_traceback() -> None:
    def read() -> None:
        raise OSError(errno.EIO, "Input/output error", "runs/x/run.yaml")

    with pytest.raises(OSError):
        guarded(read)
