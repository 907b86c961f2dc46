"""RMSNorm without Transformer Engine, also where ranks hold a share of the tokens each."""

from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from aworld.training import cpu


class RMSNorm(torch.nn.Module):
    """x / √(mean(x²) + ε) · weight over the last dimension, computed in float32 (arXiv 1910.07467, eq. 4).

    It replaces Megatron's norms, and takes their arguments. Backward keeps the input and one float32 per row.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: object):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype, device=cpu.device()))
        # Megatron sums the gradients of such weights over the tensor ranks.
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Normalise.apply(x, self.weight, self.eps)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float()
        # The norm of a row, as its squares would be a tensor of the size of x.
        scale = torch.rsqrt(torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1] + eps)
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        normed, wide, factor = x.float() * scale, gradient.float(), weight.float()
        product = wide * normed
        of_weight = product.flatten(0, -2).sum(0)
        mean = (product @ factor)[..., None] / x.shape[-1]
        of_x = (wide * factor).sub_(normed.mul_(mean)).mul_(scale)
        return of_x.to(x.dtype), of_weight.to(weight.dtype), None
