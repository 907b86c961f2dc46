"""How a process ends."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

PROGRAM = """
import atexit, os, sys
from aworld.processes import end_with
atexit.register(os.abort)
def run():
    print("said")
    {}
end_with(run)
"""


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [("sys.exit(4)", 4, ""), ("return 75", 75, ""), ("1 / 0", 1, "Zero"), ("sys.exit('no')", 1, "no")],
)
def test_a_process_ends_with_its_code_whatever_a_library_does_at_the_end(last: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(last)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "said\n") and said in done.stderr
