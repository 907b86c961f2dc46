"""Rotary positions of a packed row, as Hugging Face's Qwen3 has them: plain, or scaled by YaRN (arXiv 2309.00071)."""

import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding


class Rotary(torch.nn.Module):
    """The angle of each pair of a head's dimensions at each position.

    Attributes:
        attention_scaling: what queries and keys are multiplied with; 1 without YaRN.
    """

    def __init__(self, hf: Qwen3Config):
        super().__init__()
        original = Qwen3RotaryEmbedding(hf)
        self.attention_scaling = float(original.attention_scaling)
        self.frequencies = original.inv_freq  # no buffer: a change of the model's type would round it

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """The angles, float32 [T, 1, 1, head_dim], as Megatron applies them.

        Args:
            positions: int64 [T].
        """
        if self.frequencies.device != positions.device:
            self.frequencies = self.frequencies.to(positions.device)
        angles = positions[:, None].float() * self.frequencies
        return torch.cat((angles, angles), -1)[:, None, None, :]
