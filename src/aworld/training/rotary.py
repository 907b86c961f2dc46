"""Rotary positions as transformers computes them, also with YaRN (Peng et al., 2023, arXiv 2309.00071).

YaRN divides the scores by a temperature t before the softmax, with 1/√t = 0.1 · ln(factor) + 1. transformers and vLLM
multiply cosines and sines by 1/√t instead. Here the scale of the softmax carries 1/t, since Transformer Engine's fused
rotation of packed rows takes no factor.
"""

import torch
from megatron.core.models.common.embeddings.rope_utils import get_pos_emb_on_this_cp_rank
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.distributed import ProcessGroup
from transformers import Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from aworld.errors import InputError


def softmax_scale(hf: Qwen3Config) -> float | None:
    """The factor of the scores before the softmax, 1/(t·√head_dim); None for Megatron's own, 1/√head_dim.

    Raises:
        InputError: the rotary positions are neither plain nor YaRN.
    """
    kind = hf.rope_parameters["rope_type"]
    if kind not in ("default", "yarn"):
        raise InputError(f"the trainer knows plain rotary positions and YaRN, not rope_type={kind}")
    if kind == "default":
        return None
    _, attention_factor = ROPE_INIT_FUNCTIONS["yarn"](hf)
    return attention_factor**2 / hf.head_dim**0.5


class Rotary(RotaryEmbedding):
    """Megatron's rotary embedding with the frequencies of transformers.

    It keeps one table, for the longest context so far. Megatron's own keeps one for each of 32 lengths, 67 MB each at
    131,072 tokens.
    """

    inv_freq: torch.Tensor

    def __init__(self, hf: Qwen3Config, config: TransformerConfig):
        super().__init__(
            hf.head_dim,
            rotary_percent=1.0,
            rotary_base=hf.rope_parameters["rope_theta"],
            use_cpu_initialization=config.use_cpu_initialization,
        )
        if hf.rope_parameters["rope_type"] == "yarn":
            self.inv_freq, _ = ROPE_INIT_FUNCTIONS["yarn"](hf)
        self._table: torch.Tensor | None = None

    def forward(
        self, max_seq_len: int, offset: int = 0, packed_seq: bool = False, cp_group: ProcessGroup | None = None
    ) -> torch.Tensor:
        """The angles of the positions from `offset`, float32 [max_seq_len, 1, 1, head_dim].

        Packed rows take the angles of each context from it; other rows get this context-parallel rank's share.
        """
        end = offset + max_seq_len
        if self._table is None or len(self._table) < end:
            self._table = self.get_emb(end)
        angles = self._table[offset:end]
        group = self.cp_group if cp_group is None else cp_group
        if group is not None and group.size() > 1 and not packed_seq:
            return get_pos_emb_on_this_cp_rank(angles, 0, group)
        return angles
