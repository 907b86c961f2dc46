"""The minutes that each tier of a test session takes, beside the figures that `minutes.toml` keeps for them.

python tests/minutes.py    # the table of the sessions that ran last; pytest --minutes NAME records one
"""

import json
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TIERS = ("gpu", "cluster", "engine", "tools", "unit")
KEPT = Path(__file__).with_name("minutes.toml")
RECORDS = Path(__file__).parents[1] / "build" / "minutes"
TOLERANCE = 1.3  # of a kept figure, and half a minute: machines are noisy


def tier(item: pytest.Item) -> str:
    """The most demanding tier that a test is marked with.

    Raises:
        pytest.UsageError: it is marked with none.
    """
    marks = {mark.name for mark in item.iter_markers()}
    for name in TIERS:
        if name in marks:
            return name
    raise pytest.UsageError(f"{item.nodeid} has no tier; mark it with one of: {', '.join(TIERS)}")


class Minutes:
    """Adds up the work of a session by tier, in minutes; several workers do more of it than the clock shows."""

    def __init__(self, name: str, is_whole: bool):
        """`is_whole`: whether the session runs all tests of its name, so that its minutes are worth a record."""
        self.name, self.is_whole = name, is_whole
        self.work: Counter[str] = Counter()
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)  # none where a worker crashed
        self.work[properties.get("tier", "crashed")] += report.duration / 60

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        minutes = {"by the clock": (time.monotonic() - self.began) / 60, **self.work}
        terminalreporter.section(f"minutes of {self.name}")
        for line in table(self.name, minutes):
            terminalreporter.write_line(line, red="CREPT UP" in line, bold="CREPT UP" in line)
        if self.is_whole and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            RECORDS.mkdir(parents=True, exist_ok=True)
            (RECORDS / f"{self.name}.json").write_text(json.dumps({k: round(v, 2) for k, v in minutes.items()}))


def table(name: str, taken: Mapping[str, float]) -> Iterator[str]:
    """A line for each tier of the session `name`: its minutes, those kept, and whether it crept up."""
    kept = tomllib.loads(KEPT.read_text()).get(name, {})
    for key, minutes in taken.items():
        was = kept.get(key)
        line = f"{name:5} {key:12} {minutes:6.1f} minutes" + (f", {was:.1f} are kept" if was is not None else "")
        yield line + ("   <<<<< CREPT UP" if was is not None and has_crept_up(minutes, was) else "")


def has_crept_up(minutes: float, kept: float) -> bool:
    return minutes > TOLERANCE * kept + 0.5


if __name__ == "__main__":
    for record in sorted(RECORDS.glob("*.json"), key=lambda path: path.stat().st_mtime):
        print(*table(record.stem, json.loads(record.read_text())), sep="\n")
