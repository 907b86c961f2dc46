"""The trainer's attention over packed rows, in bf16, on strided inputs as Megatron passes them, against plain softmax.

One argument: `pytorch`, by its flash kernel alone, or `transformer_engine`.

Prints JSON: `difference`, the largest, of a row of one context from float32; `apart`, of a row of several contexts from
the same contexts in rows of their own, and `apart_gradient`, of their gradients, as a share of the largest; `bytes`
that the forward pass allocated on a GPU (0 on a CPU); `scores`, bytes of the scores in bf16.
"""

import json
import sys
from contextlib import nullcontext
from itertools import pairwise

import torch
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.attention import SDPBackend, sdpa_kernel

from aworld.config import Parallel
from aworld.training import cpu, model
from aworld.training.attention import CausalAttention, Packed, fused_attention

S, HEADS, KV_HEADS, D = 2048, 16, 2, 128
STARTS = (0, 200, 201, 1000, 2048)  # of several contexts in a row


def main() -> None:
    model.initialize(Parallel(), 0, 300)
    device, fused = cpu.device(), sys.argv[1] == "transformer_engine"
    config = TransformerConfig(
        num_layers=1,
        hidden_size=HEADS * D,
        num_attention_heads=HEADS,
        num_query_groups=KV_HEADS,
        kv_channels=D,
        attention_dropout=0.0,
        params_dtype=torch.bfloat16,
        bf16=True,
    )
    kind = {"layer_number": 1, "attn_mask_type": AttnMaskType.causal, "attention_type": "self"}
    attention = (fused_attention() if fused else CausalAttention)(config=config, **kind)
    torch.manual_seed(0)
    mixed = torch.randn(S, 1, HEADS + 2 * KV_HEADS, D, device=device).bfloat16()

    def attend(tokens: slice, starts: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The output for some tokens as a row, and the gradient of their inputs."""
        leaf = mixed[tokens].clone().requires_grad_()
        packed = Packed.of(starts, 1, device)
        q, k, v = leaf.split([HEADS, KV_HEADS, KV_HEADS], 2)
        found = attention(q, k, v, None, AttnMaskType.causal, packed_seq_params=packed)
        (gradient,) = torch.autograd.grad(found.float().square().sum(), leaf)
        return found.detach(), gradient

    on_gpu = device.type == "cuda"
    with nullcontext() if fused else sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        whole, gradient = attend(slice(0, S), STARTS)
        rows = [attend(slice(begin, end), (0, end - begin)) for begin, end in pairwise(STARTS)]
        q, k, v = mixed.split([HEADS, KV_HEADS, KV_HEADS], 2)
        packed = Packed.of((0, S), 1, device)
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        one_context = attention(q, k, v, None, AttnMaskType.causal, packed_seq_params=packed)
        used = torch.cuda.max_memory_allocated() - before if on_gpu else 0
    found = {
        "difference": _largest(one_context[:, 0], _plain_softmax(q, k, v)),
        "apart": _largest(whole, torch.cat([row for row, _ in rows])),
        "apart_gradient": _largest(gradient, torch.cat([of for _, of in rows])) / gradient.abs().max().item(),
        "bytes": used,
        "scores": 2 * HEADS * S * S,
    }
    print(json.dumps(found))
    torch.distributed.destroy_process_group()


def _plain_softmax(*qkv: torch.Tensor) -> torch.Tensor:
    """Causal attention of one context in float32, [s, heads · d]."""
    q, k, v = (x[:, 0].float().transpose(0, 1) for x in qkv)  # [heads, s, d]
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v))
    scores = q @ k.transpose(1, 2) / D**0.5
    scores.masked_fill_(torch.ones(S, S, dtype=torch.bool, device=q.device).triu(1), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.float() - other.float()).abs().max().item()


if __name__ == "__main__":
    main()
