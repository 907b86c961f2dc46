"""The optimizer's state as a checkpoint holds it: each rank's own part, as pieces of the model's tensors.

Megatron's distributed optimizer cuts the flat parameters among the data-parallel ranks. Its layout `fully_reshardable`
gathers all parts on every rank at a save, and reads them all at a load. Here a part is described as rectangles of the
tensor that it was cut from: at most three for each parameter and block of rows. So each rank writes its own part alone,
and reads it alone in the same layout; nothing is sent. Names and shapes are those of `fully_reshardable`: any other
parallel layout can load them. The model's weights are not stored beside them, as they are its float32 values, rounded.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

from aworld.training.optimizer import parts

_NAMES = ("param", "exp_avg", "exp_avg_sq")  # the float32 value, and the moments of Adam


def pieces_of(optimizer: Any, model_state: dict[str, Any]) -> list[ShardedTensor]:
    """This rank's float32 parameters and moments, by rectangles. Their memory is the optimizer's own.

    Args:
        optimizer: Megatron's.
        model_state: the `sharded_state_dict` of its model.
    """
    blocks = {}  # of each parameter: the tensors of a checkpoint that it consists of, one below the other
    for each in nested_values(model_state):
        if isinstance(each, ShardedTensorFactory):
            blocks[each.data] = each.build()
        elif isinstance(each, ShardedTensor):
            blocks[each.data] = [each]
    found: list[ShardedTensor] = []
    for part in parts(optimizer):
        for parameter in part.model_param_gbuf_map:
            begin = part._get_model_param_range_map(parameter)["param"].start
            states = part._get_main_param_and_optimizer_states(parameter)
            for name in _NAMES:
                found += _pieces(f"optimizer.state.{name}", states[name].detach(), begin, blocks[parameter])
    return found


def _pieces(prefix: str, own: torch.Tensor, begin: int, blocks: list[ShardedTensor]) -> Iterator[ShardedTensor]:
    """Cut a rank's part of a parameter into rectangles of its blocks. `own` [n] has its elements from `begin` on."""
    end, at = begin + len(own), 0
    for block in blocks:
        *axes, columns = block.local_shape
        assert len(axes) <= 1, "a parameter is a matrix or a vector"
        size = block.data.numel()
        for row, column, height, width in rectangles(max(begin - at, 0), min(end - at, size), columns):
            first = at + row * columns + column - begin
            shape = (1,) * block.prepend_axis_num + ((height, width) if axes else (width,))
            corner = (*[0] * block.prepend_axis_num, *((row, column) if axes else (column,)))
            yield replace(
                block,
                key=f"{prefix}.{block.key}",
                data=own[first : first + height * width].view(shape),
                dtype=own.dtype,
                local_shape=shape,
                global_offset=tuple(a + b for a, b in zip(block.global_offset, corner, strict=True)),
                axis_fragmentations=None,  # the pieces make no grid
                replica_id=(*block.replica_id[:2], 0),  # no other data-parallel rank has it
                prepend_axis_num=0,
            )
        at += size


def rectangles(begin: int, end: int, columns: int) -> Iterator[tuple[int, int, int, int]]:
    """The rectangles (row, column, height, width) that cover elements [begin, end) of a matrix, counted row by row."""
    while begin < end:
        row, column = divmod(begin, columns)
        height = 1 if column else max((end - begin) // columns, 1)
        width = min(columns - column, end - begin)
        yield row, column, height, width
        begin += height * width
