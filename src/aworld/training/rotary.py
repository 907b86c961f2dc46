"""Rotary positions of a packed row as transformers computes them, also with YaRN (Peng et al., 2023, arXiv 2309.00071).

YaRN divides the scores by a temperature t before the softmax, with 1/√t = 0.1 · ln(factor) + 1. transformers and vLLM
multiply cosines and sines by 1/√t instead. Here the scale of the softmax carries 1/t, since Transformer Engine's fused
rotation takes no factor.
"""

import torch
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
    _, factor = _frequencies(hf)
    return None if factor == 1 else factor**2 / hf.head_dim**0.5


class Rotary(torch.nn.Module):
    """The angles by which the dimensions of a head are rotated at each position."""

    def __init__(self, hf: Qwen3Config):
        super().__init__()
        self.frequencies, _ = _frequencies(hf)  # no buffer: a change of the model's type would round it

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """The angles, float32 [T, 1, 1, head_dim], as Megatron applies them.

        Args:
            positions: int64 [T].
        """
        self.frequencies = self.frequencies.to(positions.device)
        angles = positions[:, None].float() * self.frequencies
        return torch.cat((angles, angles), -1)[:, None, None, :]


def _frequencies(hf: Qwen3Config) -> tuple[torch.Tensor, float]:
    """The angle of a position for each pair of dimensions, float32 [head_dim / 2], and 1/√t.

    The plain ones are written here: they are no function of transformers, but of its Qwen3, whose import takes a tenth
    of the time in which a rank starts.
    """
    if hf.rope_parameters["rope_type"] == "yarn":
        return ROPE_INIT_FUNCTIONS["yarn"](hf)
    exponents = torch.arange(0, hf.head_dim, 2, dtype=torch.float) / hf.head_dim
    return 1 / hf.rope_parameters["rope_theta"] ** exponents, 1.0
