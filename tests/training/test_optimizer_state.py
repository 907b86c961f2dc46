"""How a rank's part of a parameter is described as pieces of it."""

import numpy as np
import pytest

from aworld.training.optimizer_state import rectangles

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (5, 1), (4, 6)])
def test_at_most_three_rectangles_hold_each_element_of_a_range_once_and_in_order(rows: int, columns: int) -> None:
    matrix = np.arange(rows * columns).reshape(rows, columns)
    for end in range(matrix.size + 1):
        for begin in range(end + 1):
            pieces = [matrix[r : r + h, c : c + w] for r, c, h, w in rectangles(begin, end, columns)]
            assert [value for piece in pieces for value in piece.flat] == list(range(begin, end))
            assert len(pieces) <= 3
