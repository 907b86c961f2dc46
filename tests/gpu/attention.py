"""The trainer's attention by the flash kernel alone, on strided inputs as Megatron passes them, against plain softmax.

Prints JSON: `difference`, the largest, of bf16 from float32; `bytes` that the forward pass allocated on a GPU (0 on a
CPU); `scores`, bytes of the scores in bf16.
"""

import json

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.attention import SDPBackend, sdpa_kernel

from aworld.training.model import CausalAttention

S, HEADS, KV_HEADS, D = 2048, 16, 2, 128


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = TransformerConfig(num_layers=1, hidden_size=HEADS * D, num_attention_heads=HEADS)
    torch.manual_seed(0)
    mixed = torch.randn(S, 1, HEADS + 2 * KV_HEADS, D, device=device).bfloat16().requires_grad_()
    q, k, v = mixed.split([HEADS, KV_HEADS, KV_HEADS], 2)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        found = CausalAttention(config)(q, k, v)
        used = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
        found.sum().backward()
    assert mixed.grad is not None and mixed.grad.isfinite().all()
    with torch.no_grad():
        one, keys, values = (x[:, 0].float().transpose(0, 1) for x in (q, k, v))  # [heads, s, d]
        keys, values = (x.repeat_interleave(HEADS // KV_HEADS, 0) for x in (keys, values))
        scores = one @ keys.transpose(1, 2) / D**0.5
        scores.masked_fill_(torch.ones(S, S, dtype=torch.bool, device=device).triu(1), -torch.inf)
        expected = (scores.softmax(-1) @ values).transpose(0, 1).flatten(1)
    difference = (found[:, 0].float() - expected).abs().max().item()
    print(json.dumps({"difference": difference, "bytes": used, "scores": 2 * HEADS * S * S}))


if __name__ == "__main__":
    main()
