"""A stack of layers of Qwen3-32B's shapes: the FLOPs and bytes that it should cost, and the trainer around it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3Config

    from aworld.training.algorithms import MicroBatch
    from aworld.training.step import Trainer

# weight and gradient of a parameter in the model, and in float32 its copy and two moments of Adam
BYTES_PER_PARAMETER = 2 + 4 + 4 + 4 + 4
HEAD_BYTES = 14  # per token and entry of the vocabulary: bf16 logits and their gradient, float32 and its gradient, exp


@dataclass(frozen=True)
class Stack:
    """Sizes as in an HF config.json; the vocabulary is small, so that logits cost little beside layers."""

    layers: int = 2
    hidden: int = 5120
    ffn: int = 25600
    heads: int = 64
    kv_heads: int = 8
    head_dim: int = 128
    vocab: int = 1024
    context: int = 40960

    @property
    def matmuls(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of a layer's weight matrices."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [(q + 2 * kv, self.hidden), (self.hidden, q), (2 * self.ffn, self.hidden), (self.hidden, self.ffn)]

    @property
    def matmul_parameters(self) -> int:
        """Parameters that a token is multiplied with: all matrices but the embedding."""
        return self.layers * sum(n * k for n, k in self.matmuls) + self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        norms = self.layers * (2 * self.hidden + 2 * self.head_dim) + self.hidden
        return self.matmul_parameters + self.vocab * self.hidden + norms

    def flops(self, tokens: int) -> int:
        """Model FLOPs of training on one context of `tokens` tokens, forward and backward.

        2 per parameter and token forward, 4 backward; of the s × s scores only the causal half is counted.
        """
        attention = 6 * tokens * self.heads * self.head_dim * self.layers
        return tokens * (6 * self.matmul_parameters + attention)

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and optimizer where nothing is shared with another rank."""
        return BYTES_PER_PARAMETER * self.parameters

    def kept_bytes(self, tokens: int, contexts: int, fused: bool, fused_norms: bool) -> int:
        """Activations in bf16 that all layers and the last norm keep for the backward pass of `contexts` × `tokens`.

        Every kind of layer keeps: input and output of the two norms of the hidden state (4h); q and k before their norm
        and after their rotation, and v (2q + 3kv); the attention's output (q); of each row that is normalised, and of
        each row of scores, one float32. With several groups of heads it also keeps q once more: the input of its norm
        is a copy, beside the joint tensor of q, k and v. The bytes were counted tensor by tensor in autograd's list.

        Args:
            fused: layers of Transformer Engine. They keep 3f of the MLP, and compute SiLU again. Megatron's local
                layers keep 5f: the first matrix's output, SiLU of its one half, a copy of the other (Megatron adds an
                offset of zero), their product. They also keep the cosines and sines of the rotations (4 · head_dim).
            fused_norms: PyTorch's norm is one kernel. Else it keeps, instead of its input, two float32 copies.
        """
        q, kv, h, f = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.ffn
        statistics = 4 * self.heads + 4 * (2 + self.heads + self.kv_heads)
        per_layer, last = 2 * (4 * h + 3 * q + 3 * kv + 3 * f) + statistics, 2 * h + 4
        copied = q if self.kv_heads > 1 else 0
        per_layer += 2 * copied
        if not fused:
            per_layer += 2 * 2 * f
        if not (fused or fused_norms):
            per_layer += 8 * (2 * h + q + kv) - 2 * (2 * h + copied)
            last += 8 * h - 2 * h
        rotations = 0 if fused else 2 * 4 * self.head_dim * self.layers  # contexts share them
        return tokens * (contexts * (self.layers * per_layer + last) + rotations)

    def transient_bytes(self, tokens: int) -> int:
        """The most that one layer's backward pass, or the optimizer, holds for a moment.

        Backward: gradients of the MLP's tensors (6f) and of the residual stream (4h), the gradient of the largest
        matrix in bf16; and the head. Optimizer: two float32 tensors a parameter, where Adam is PyTorch's `foreach`.
        """
        backward = 2 * tokens * (6 * self.ffn + 4 * self.hidden) + 2 * 2 * self.ffn * self.hidden
        return max(backward + HEAD_BYTES * tokens * self.vocab, 2 * 4 * self.parameters)


def hf_config(stack: Stack) -> "Qwen3Config":
    """The stack as transformers describes it."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=stack.vocab,
        hidden_size=stack.hidden,
        intermediate_size=stack.ffn,
        num_hidden_layers=stack.layers,
        num_attention_heads=stack.heads,
        num_key_value_heads=stack.kv_heads,
        head_dim=stack.head_dim,
        max_position_embeddings=stack.context,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )


def build(stack: Stack, dtype: str = "bfloat16") -> "Trainer":
    """The trainer of one rank around the stack, with random weights that go through a folder in TMPDIR.

    `model.initialize` comes first.
    """
    import torch
    from transformers import Qwen3ForCausalLM

    from aworld.config import Training
    from aworld.training.step import Trainer

    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM._from_config(hf_config(stack), dtype=getattr(torch, dtype)).save_pretrained(folder)
        return Trainer(Training(), Path(folder), dtype, 1e-6)


def micro_batch(stack: Stack, tokens: int, contexts: int) -> "MicroBatch":
    """Random tokens, the second half of each context sampled."""
    import torch

    from aworld.training import cpu
    from aworld.training.algorithms import MicroBatch

    device, shape = cpu.device(), (contexts, tokens)
    ids = torch.randint(0, stack.vocab, (contexts, tokens + 1), generator=torch.Generator().manual_seed(0))
    sampled = torch.zeros(shape, dtype=torch.bool)
    sampled[:, tokens // 2 :] = True
    weights = sampled.float() / sampled.sum()
    advantages = torch.tensor([1.0, -1.0]).repeat(contexts)[:contexts, None]
    logprobs = torch.full(shape, -float(torch.tensor(stack.vocab).log())) * sampled
    return MicroBatch(*(part.to(device) for part in (ids, sampled, logprobs, advantages, weights)))
