"""Causal attention within each context of a packed row, shared by the ranks of context parallelism."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.attention.bias import causal_lower_right

from aworld.training.packing import own_positions


@dataclass
class Packed(PackedSeqParams):
    """Where the contexts of a row lie, as Megatron hands it to every layer.

    Attributes:
        starts: where each context begins in the whole row, and the row's length.
        ranks: of context parallelism.
    """

    starts: tuple[int, ...] = ()
    ranks: int = 1

    @classmethod
    def of(cls, starts: tuple[int, ...], ranks: int, device: torch.device) -> "Packed":
        """The description of a row that `ranks` context-parallel ranks share."""
        bounds = torch.tensor(starts, dtype=torch.int32, device=device)
        longest = max(end - begin for begin, end in pairwise(starts))
        # Not thd: Megatron would make the rotary embedding of each context apart, by a copy from the GPU in each layer.
        # Padded bounds are for context parallelism alone: Transformer Engine compares them in each layer.
        padded = bounds if ranks > 1 else None
        return cls("sbhd", bounds, bounds, padded, padded, longest, longest, starts=starts, ranks=ranks)

    @cached_property
    def order(self) -> torch.Tensor:
        """For each position of the row its place in the ranks' shares behind each other, int64 [T]."""
        held = np.concatenate([own_positions(self.starts, self.ranks, rank) for rank in range(self.ranks)])
        return torch.from_numpy(np.argsort(held)).to(self.cu_seqlens_q.device)


class CausalAttention(MegatronModule):
    """softmax(QKᵀ/√d)·V under the causal mask, in PyTorch's fused kernel, which never holds the s × s scores.

    It replaces Megatron's `DotProductAttention`, and takes its arguments. Each context is a sequence of its own. With
    context parallelism every rank gathers the keys and values of the whole row.
    """

    def __init__(self, config: TransformerConfig, softmax_scale: float | None = None, **_: object):
        super().__init__(config=config)
        self.scale = softmax_scale

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *_: object,
        packed_seq_params: Packed,
        **__: object,
    ) -> torch.Tensor:
        """The attention's output, [T, 1, heads · d], T the tokens that this rank holds.

        Args:
            query: [T, 1, heads, d].
            key, value: [T, 1, kv_heads, d].
        """
        starts, ranks = packed_seq_params.starts, packed_seq_params.ranks
        if ranks == 1:
            # Split, not sliced: the gradient of a slice is as large as the row.
            lengths = [end - begin for begin, end in pairwise(starts)]
            contexts = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
            return _joined([self._attend(*context) for context in contexts])
        group = parallel_state.get_context_parallel_group()
        rank, order = group.rank(), packed_seq_params.order
        key, value = (gather_from_sequence_parallel_region(x, group=group).index_select(0, order) for x in (key, value))
        parts, at = [], 0
        for begin, end in pairwise(starts):
            chunk = (end - begin) // (2 * ranks)
            for number in (rank, 2 * ranks - 1 - rank):
                seen = slice(begin, begin + (number + 1) * chunk)
                parts.append(self._attend(query[at : at + chunk], key[seen], value[seen]))
                at += chunk
        return _joined(parts)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The attention of the last tokens of a context, the queries, to all of it."""
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        mask: Any = None if len(query) == len(key) else causal_lower_right(len(query), len(key))
        grouped = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, scale=self.scale, enable_gqa=grouped
        )
        return out.permute(2, 0, 1, 3)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """The parts behind each other, [T, 1, heads · d]. One alone is not copied: its backward pass keeps it already."""
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).flatten(2)


def fused_attention() -> type:
    """Transformer Engine's attention over packed rows, for the same arguments; it communicates while it computes."""
    from megatron.core.extensions.transformer_engine import TEDotProductAttention

    class FusedAttention(TEDotProductAttention):
        def forward(self, query, key, value, *args, packed_seq_params, **kwargs):
            query, key, value = (x.squeeze(1) for x in (query, key, value))
            packed = replace(packed_seq_params, qkv_format="thd")
            out = super().forward(query, key, value, *args, packed_seq_params=packed, **kwargs)
            return out.reshape(len(out), 1, -1)

    return FusedAttention
