"""The parts that pages are made of: the curve, durations, lines of a width, errors in logs."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from aworld.publish import append_json, publish_text
from aworld.rundir import RunDir
from aworld.watch.curve import curve
from aworld.watch.faults import LOGS, Faults
from aworld.watch.lines import Part, fit, stacked
from aworld.watch.slow import duration

pytestmark = pytest.mark.unit


def dots(lines: list[Text], margin: int) -> set[tuple[int, int]]:
    """The column and the row, from above, of each braille dot; by Unicode's own numbering of dots 1 to 8."""
    at = {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (1, 0), 4: (1, 1), 5: (1, 2), 6: (0, 3), 7: (1, 3)}
    found = set()
    for row, line in enumerate(lines):
        for column, sign in enumerate(line.plain[margin:]):
            bits = ord(sign) - 0x2800 if 0x2800 <= ord(sign) < 0x2900 else 0
            found |= {(2 * column + at[bit][0], 4 * row + at[bit][1]) for bit in range(8) if bits >> bit & 1}
    return found


@given(st.lists(st.floats(0, 1), min_size=2, max_size=300), st.integers(20, 120), st.integers(2, 20))
def test_each_point_of_a_curve_is_a_dot_in_its_place(values: list[float], width: int, height: int) -> None:
    lines = curve(list(enumerate(values)), {}, len(values) - 1, width, height)
    assert [line.cell_len for line in lines] == [width] * height
    low, high = min(values), max(values)
    if high - low < 1e-6:
        return
    found, margin = dots(lines, 6), 6
    for at, value in enumerate(values):
        x = at / (len(values) - 1) * (2 * (width - margin) - 1)
        y = (high - value) / (high - low) * (4 * height - 1)
        assert any(abs(column - x) <= 0.5 and abs(row - y) <= 0.5 for column, row in found)
    assert {column for column, _ in found} == set(range(2 * (width - margin)))  # without a gap


def test_evaluations_are_signs_on_top() -> None:
    lines = curve([(1, 0.0), (10, 1.0)], {"◆": [(0, 0.0), (10, 1.0)]}, 10, 46, 5)
    assert lines[0].plain == "1.00 ┤" + lines[0].plain[6:45] + "◆" and lines[4].plain.startswith("0.00 ┤◆")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (60, "1 min"), (3599, "59 min 59 s"), (90061, "1 d 1 h")],
)
def test_a_duration_has_two_units_at_most(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.text("ab …", max_size=60), st.integers(3, 40))
def test_a_line_ends_with_a_whole_word(words: str, width: int) -> None:
    line = fit(Text(words), width)
    assert line.cell_len <= width
    if line.plain != words and " " in words.lstrip()[: width - 2]:
        kept = line.plain.removesuffix(" …")
        assert words.startswith(kept) and words[len(kept)] == " "


def test_the_last_parts_go_first_where_there_is_no_room() -> None:
    def part(name: str, wanted: int, least: int) -> Part:
        return Part(Text(name), lambda width, height: [Text(name.lower())] * height, wanted, least)

    parts = [part("A", 3, 1), part("B", 9, 2), part("C", 5, 3)]
    assert [line.plain[0] for line in stacked(parts, 20, 9)] == list("AabBbCccc"[:2] + "BbbCccc")[:9]
    assert [line.plain[0] for line in stacked(parts, 20, 8)] == list("AaaaBbbb")
    assert stacked(parts, 20, 1) == []


def test_the_last_error_of_each_new_log_is_found(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for number in range(3 * LOGS):
        append_json(run.jobs, {"stage": f"gather-{number:04d}", "job": str(number)})
    logs = {
        "767_0_log.out": "error: an older one\nwork\nerror: disk full\nmore work\n",
        "766_0_log.out": 'Traceback (most recent call last):\n  File "a", line 1\n    x\nKeyError: 3\nbye\n',
        "765_0_log.out": "slurmstepd: error: *** STEP 765.0 ON n1 CANCELLED AT 1 DUE TO PREEMPTION ***\n",
        "764_0_log.out": "all is well: no error: none\n",
        "0_0_log.out": "error: of a job long ago\n",
    }
    for age, (name, text) in enumerate(logs.items()):
        publish_text(run.logs / name, text)
        os.utime(run.logs / name, (1e9 - age, 1e9 - age))
    for number in range(1, LOGS):
        publish_text(run.logs / f"{number}_0_log.out", "well\n")
    faults = Faults(run)
    found = [(fault.stage, fault.text) for fault in faults.look(set())]
    assert found == [
        ("gather-0767", "disk full"),
        ("gather-0766", "KeyError: 3"),
        ("gather-0765", "*** STEP 765.0 ON n1 CANCELLED AT 1 DUE TO PREEMPTION ***"),
    ]
    assert faults.look(set())[0].path == run.logs / "767_0_log.out"


def test_a_log_of_a_job_that_left_the_queue_is_looked_at_once(tmp_path: Path) -> None:
    run, faults = RunDir(tmp_path), Faults(RunDir(tmp_path))
    for job, row in {"1": {"elements": [0]}, "2": {"elements": [0]}, "3": {}}.items():
        append_json(run.jobs, {"stage": "train", "job": job} | row)

    def write(text: str) -> set[str]:
        for job in "123":
            publish_text(run.logs / f"{job}_0_log.out", f"error: {text} of job {job}\n")
            os.utime(run.logs / f"{job}_0_log.out", (1e9, 1e9))
        return {fault.text for fault in faults.look({"2"})}

    assert write("first") == {f"first of job {job}" for job in "123"}
    assert write("another") == {"first of job 1", "another of job 2", "another of job 3"}
    assert {fault.text for fault in faults.look({"1"})} >= {"another of job 1"}  # it was put back into the queue


def test_a_curve_without_room_has_no_lines_and_lines_of_a_text_become_one() -> None:
    assert curve([(1, 0.0), (10, 1.0)], {}, 10, 6, 5) == []
    assert fit(Text("a\nb\tc", "red"), 20).plain == "a b c"
