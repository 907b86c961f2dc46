"""What the figures of an evaluation read of its journals."""

from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_cases import episode

from aworld.errors import InfrastructureError
from aworld.evaluation.attempt import attempts_in
from aworld.trajectories import journal
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit
TOKENS = 50_000


def test_texts_are_read_and_tokens_are_not(tmp_path: Path) -> None:
    """Counted by the kernel."""
    large = {"token_ids": [1] * TOKENS, "mask": [0, *[1] * (TOKENS - 1)], "logprobs": [-1.0] * TOKENS}
    played = [replace(episode("a", n), **large) for n in range(4)]  # type: ignore[arg-type]
    counted = replace(episode("b", 0), sampling={"completion_tokens": 7})
    with Journal(tmp_path / "worker-0.journal") as log:
        for one in [*played, counted]:
            log.append(one)
    before = bytes_read()
    found = attempts_in(tmp_path)
    texts = [attempt.read() for attempt in found]
    assert bytes_read() - before < TOKENS
    assert [attempt.sampled for attempt in found] == [TOKENS - 1] * 4 + [7]
    for attempt, text, one in zip(found, texts, [*played, counted], strict=True):
        assert (attempt.identity, attempt.answer, attempt.tools) == (one.identity, one.answer, one.tools)
        assert text == replace(one, token_ids=[], mask=[], logprobs=[])
    assert [attempt.identity for attempt in attempts_in(tmp_path, "b")] == [counted.identity]


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_a_damaged_text_is_not_counted_and_the_next_one_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (("worker-0", "12"), ("worker-1", "13")):
        with Journal(tmp_path / f"{name}.journal") as log:
            log.append(replace(episode("a", 0), answer=said))
    (first,) = attempts_in(tmp_path)
    assert first.answer == "12"
    (entry,) = journal.listed(tmp_path / "worker-0.journal")
    data = bytearray(entry.path.read_bytes())
    data[entry.end - 1] ^= 1
    entry.path.write_bytes(data)
    assert [attempt.answer for attempt in attempts_in(tmp_path)] == ["13"]
    assert "attempt 0 at a is lost" in capsys.readouterr().err
    with pytest.raises(InfrastructureError, match=r"worker-0\.journal changed while it was read"):
        first.read()
