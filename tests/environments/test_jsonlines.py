import json
import random

import pytest

from aworld.environments import jsonlines
from aworld.environments.jsonlines import JsonLines

pytestmark = pytest.mark.unit
LINES = [
    {"id": 1, "text": 'short, "quoted", with \\ and \n'},
    {"text": "\\" * 50, "more": ["ü" * 30, "\U0001f600" * 20, "\u4e00" * 20]},
    {"a": "x" * 200, "b": "y" * 10, "d": {"c": "z" * 60 + '"' * 30}},
    [],
]


def fed(content: bytes, block: int) -> list[bytes]:
    lines = JsonLines()
    return [line for at in range(0, len(content), block) for line in lines.feed(content[at : at + block])]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 64, 4096])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_only_long_strings_are_cut_wherever_the_blocks_end(
    block: int, ascii_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"".join(json.dumps(line, ensure_ascii=ascii_only).encode() + b"\n" for line in LINES)
    assert [json.loads(line) for line in fed(content, block)] == LINES
    for most in range(1, 40):
        monkeypatch.setattr(jsonlines, "STRING_BYTES", most)
        cut = [json.loads(line.decode("utf-8", "replace")) for line in fed(content, block)]
        assert list(cut[2]) == ["a", "b", "d"] and cut[3] == []
        assert cut[2]["a"] == "x" * most + f" [cut: {200 - most} more bytes]"
        assert cut[2]["b"].startswith("y" * min(most, 10))


def test_noise_between_messages_is_a_line_of_its_own() -> None:
    content = b'it\'s "open\n{"a": 1}\nends with a \\\n{"b": "2"}\n\n'
    assert fed(content, 3) == [b"it's \"open", b'{"a": 1}', b"ends with a \\", b'{"b": "2"}', b""]


@pytest.mark.parametrize("block", [1, 4096])
def test_a_line_is_there_as_soon_as_it_ends(block: int) -> None:
    for end in ("\n", '"', "\\", "\u00e9", "x"):
        content = json.dumps({"a": end}).encode() + b"\n"
        assert fed(content, block) == [content[:-1]]


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "LINE_BYTES", 1000)
    with pytest.raises(OverflowError):
        fed(b"x" * 2000, 100)


def test_any_bytes_are_taken() -> None:
    noise = random.Random(7).randbytes(20_000)
    assert b"\n".join(fed(noise + b"\n", 113)).count(b"\n") == noise.count(b"\n")
