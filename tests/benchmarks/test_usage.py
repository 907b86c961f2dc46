"""Commands that fail or hang leave nothing behind, and a rival among them is left out."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from rivals import left_out
from usage import Group

from aworld.errors import InfrastructureError

pytestmark = pytest.mark.tools
FAILS = "sleep 100 & echo $! > $0; echo no such tool; exit 3"
HANGS = "sleep 100 & echo $! > $0; wait"


@pytest.mark.parametrize(
    ("program", "limit", "reason"),
    [(FAILS, 30, "failed with exit code 3: no such tool"), (HANGS, 0.5, "did not end within 0.5 s")],
)
def test_a_command_that_fails_or_hangs_ends_with_its_children(
    tmp_path: Path, program: str, limit: float, reason: str
) -> None:
    began, faults = time.monotonic(), dict[str, str]()
    with left_out("rival", faults), Group() as group:
        group.run(["sh", "-c", program, tmp_path / "child"], 0.1, limit)
    assert faults["rival"].endswith(reason) and time.monotonic() - began < 30
    with suppress(psutil.NoSuchProcess):
        child = psutil.Process(int((tmp_path / "child").read_text()))
        assert child.status() == psutil.STATUS_ZOMBIE  # its new parent looks at it later


def test_what_is_no_failure_of_a_rival_is_raised() -> None:
    with pytest.raises(KeyError), left_out("rival", {}):
        raise KeyError
    with pytest.raises(InfrastructureError):
        raise InfrastructureError("ours")
