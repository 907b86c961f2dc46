"""Decoding against an encoder of the test's own, and answers in many writings."""

import base64
import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.config import Tasks
from aworld.errors import InputError
from aworld.tasks import xbench
from aworld.tasks.xbench import decode

pytestmark = pytest.mark.unit
CANARY = "xbench-canary-Ω"


def encoded(text: str, canary: str = CANARY) -> str:
    data, key = text.encode(), canary.encode()
    return base64.b64encode(bytes(byte ^ key[at % len(key)] for at, byte in enumerate(data))).decode()


def write(path: Path, rows: list[dict[str, str]]) -> Tasks:
    with open(path, "w", encoding="utf-8-sig", newline="") as f:
        out = csv.DictWriter(f, ["id", "prompt", "answer", "reference_steps", "canary"])
        out.writeheader()
        out.writerows({"reference_steps": "", "canary": CANARY, **row} for row in rows)
    return Tasks(source="xbench", path=str(path))


@given(st.text(), st.text(min_size=1))
def test_decoding_undoes_encoding(text: str, canary: str) -> None:
    assert decode(encoded(text, canary), canary) == text


@pytest.mark.parametrize(
    ("answer", "truth", "worth"),
    [
        ("北京", "北京", 1),
        ("北京。", "北京", 1),
        ("ABC(1)", "ABC（1）", 1),  # full-width brackets and letters
        ("1,234", "１，２３４", 1),
        ("  The Answer ", "the answer", 1),
        ("上海", "北京", 0),
        ("", "北京", 0),
        (None, "None", 0),
        ("“A, B”", "a, b.", 1),
        ("1,234,567", "1234567", 1),
        ("1,23", "123", 0),
        ("-5", "5", 0),
        ("（-5）", "-5", 1),
        ("3.5", "35", 0),
        ("A-B", "AB", 0),
    ],
)
def test_an_exact_match_does_without_a_judge(answer: str | None, truth: str, worth: int, tmp_path: Path) -> None:
    rows = [{"id": "7", "prompt": encoded("哪里？\n第二行"), "answer": encoded(truth)}]
    source = xbench.source(write(tmp_path / "x.csv", rows), tmp_path)
    (task,) = source.tasks("held_out")
    assert (task.task_id, task.question, task.answer) == ("xbench-7", "哪里？\n第二行", truth)
    assert source.score(answer, task) == worth


def test_a_file_that_is_not_right_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; set it to xbench"):
        xbench.source(Tasks(source="xbench", path=str(tmp_path / "no.csv")), tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has no column id, prompt, answer, canary"):
        xbench.source(Tasks(source="xbench", path=str(tmp_path / "other.csv")), tmp_path)
    with pytest.raises(InputError, match="row 3 cannot be decoded"):
        xbench.source(write(tmp_path / "x.csv", [{"id": "3", "prompt": "not base64!", "answer": "?"}]), tmp_path)
