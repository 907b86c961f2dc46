"""How the tokens of a round are cut into pieces."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.trajectories.frames import Entry
from aworld.trajectories.pieces import cut
from aworld.trajectories.record import Record

pytestmark = pytest.mark.unit


def entry(number: int, tokens: int) -> Entry:
    record = Record(1, f"task-{number}", 0, 1, 0.0, "answered", 0, 0, {}, 1, {}, True, tokens, [])
    return Entry(Path("a.journal"), number, 0, 0, 0, record)


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 2000))
def test_pieces_hold_all_in_order_and_no_more_than_a_piece_may(lengths: list[int], chunk: int) -> None:
    pieces = cut([entry(*each) for each in enumerate(lengths)], chunk)
    assert [one.record.tokens for piece in pieces for one in piece.entries] == lengths
    assert [one.at for piece in pieces for one in piece.entries] == [*range(len(lengths))]
    at = 0
    for piece, following in zip(pieces, [*pieces[1:], None], strict=False):
        own = [one.record.tokens for one in piece.entries]
        assert (piece.at, piece.tokens) == (at, sum(own)) and own
        assert 9 * piece.tokens <= chunk or len(own) == 1
        if following:  # no more would have fitted
            assert 9 * (piece.tokens + following.entries[0].record.tokens) > chunk
        at += piece.tokens
