"""The codec of deltas: any change of any words comes back, and damage is noticed."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aworld.policies import delta

pytestmark = pytest.mark.unit

words = st.integers(0, 3000).flatmap(lambda size: st.tuples(*[arrays.arrays(np.uint16, size)] * 2))


def applied(old: np.ndarray, records: bytes) -> np.ndarray:
    """The new words, from a file of records and the old words."""
    file, out = io.BytesIO(records), old.copy().view(np.uint8)
    for begin in range(0, len(out), delta.BLOCK):
        delta.apply(delta.read(file), out[begin : begin + delta.BLOCK])
    assert not file.read()
    return out.view(np.uint16)


@given(words, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_whatever_changed_comes_back(pair: tuple[np.ndarray, np.ndarray], share: float, seed: int) -> None:
    old, other = pair
    new = np.where(np.random.default_rng(seed).random(len(old)) < share, other, old)
    records = delta.encode(old.view(np.uint8), new.view(np.uint8))
    assert np.array_equal(applied(old, b"".join(records)), new)


def test_a_file_of_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "BLOCK", 1 << 10)
    old, new = np.random.default_rng(0).integers(0, 2**16, (2, 5000), np.uint16)
    new[600:4000] = old[600:4000]  # blocks in which nothing changed
    records = delta.encode(old.view(np.uint8), new.view(np.uint8))
    assert len(records) == 10
    assert np.array_equal(applied(old, b"".join(records)), new)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_record_is_an_error_or_another_result_and_never_more_than_the_block(at: int, flip: int) -> None:
    old = np.arange(4000, dtype=np.uint16)
    new = old + (np.arange(4000) % 7 == 0)
    (record,) = (bytearray(record[delta.LENGTH :]) for record in delta.encode(old.view(np.uint8), new.view(np.uint8)))
    record[at % len(record)] ^= flip
    block = old.copy()
    try:
        delta.apply(bytes(record), block.view(np.uint8))
    except delta.DamagedError:
        return
    assert len(block) == len(old)  # the checksum of the file shows the rest


def test_a_step_of_a_bf16_model_takes_a_few_per_cent() -> None:
    """6 % of the values change, each by one unit in the last place."""
    rng = np.random.default_rng(0)
    old = (rng.normal(0, 0.02, 1 << 20).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    new = old + np.where(rng.random(len(old)) < 0.06, rng.choice([1, 2**16 - 1], len(old)), 0).astype(np.uint16)
    size = sum(map(len, delta.encode(old.view(np.uint8), new.view(np.uint8))))
    assert size < 0.035 * old.nbytes
