"""How a rank's part of a parameter is described as pieces of it."""

import itertools

import numpy as np
import pytest
import torch
from megatron.core.dist_checkpointing import ShardedTensor

from aworld.training.optimizer_state import _pieces, rectangles

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (5, 1), (4, 6)])
def test_at_most_three_rectangles_hold_each_element_of_a_range_once_and_in_order(rows: int, columns: int) -> None:
    matrix = np.arange(rows * columns).reshape(rows, columns)
    for end in range(matrix.size + 1):
        for begin in range(end + 1):
            pieces = [matrix[r : r + h, c : c + w] for r, c, h, w in rectangles(begin, end, columns)]
            assert [value for piece in pieces for value in piece.flat] == list(range(begin, end))
            assert len(pieces) <= 3


@pytest.mark.parametrize("cuts", [(0, 48), (0, 5, 6, 31, 48), (0, 24, 48), (0, 1, 2, 47, 48)])
def test_the_pieces_of_all_ranks_make_the_tensor_that_a_checkpoint_holds(cuts: tuple[int, ...]) -> None:
    """Layer 1 of 3. Gate and up, one below the other in the parameter, of tensor rank 1 of 2; then a vector."""
    parameter = torch.arange(48.0).view(8, 6)
    gate, up = (
        ShardedTensor.from_rank_offsets("mlp", half, (0, 1, 3), (1, place, 4), replica_id=(0, 0, 5), prepend_axis_num=1)
        for half, place in zip(parameter.chunk(2), (1, 3), strict=True)
    )
    stored = torch.full((3, 16, 6), -1.0)
    for begin, end in itertools.pairwise(cuts):
        for piece in _pieces("p", parameter.view(-1)[begin:end], begin, [gate, up]):
            assert (piece.key, piece.global_shape, piece.replica_id) == ("p.mlp", (3, 16, 6), (0, 0, 0))
            place = tuple(slice(o, o + n) for o, n in zip(piece.global_offset, piece.local_shape, strict=True))
            assert (stored[place] == -1).all()
            stored[place] = piece.data
            assert piece.data.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
    expected = torch.full((3, 16, 6), -1.0)
    expected[1, 4:8], expected[1, 12:16] = parameter[:4], parameter[4:]
    assert torch.equal(stored, expected)

    norm = torch.arange(48.0)
    whole = ShardedTensor.from_rank_offsets("norm", norm, (0, 2, 3), replica_id=(0, 0, 0), prepend_axis_num=1)
    parts = [list(_pieces("p", norm[a:b], a, [whole])) for a, b in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat([piece.data.view(-1) for part in parts for piece in part]), norm)
    assert [piece.global_offset for part in parts for piece in part] == [(2, a) for a in cuts[:-1]]
