"""A stack of layers of Qwen3-32B's shapes: the FLOPs and bytes that it should cost, and the trainer around it."""

import tempfile
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3Config

    from aworld.training.micro_batch import MicroBatch
    from aworld.training.step import Trainer

# weight and gradient of a parameter in the model, and in float32 its copy and two moments of Adam
BYTES_PER_PARAMETER = 2 + 4 + 4 + 4 + 4
# Of the output, per token of a chunk and entry of the vocabulary: float32 logits and their exponentials.
HEAD_BYTES = 4 + 4


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

    def layer_bytes(self, fused: bool, recompute: str = "none") -> int:
        """Activations in bf16 that a layer keeps for the backward pass, per token.

        Every kind of layer keeps: input and output of the two norms of the hidden state (4h); q and k before their norm
        and after their rotation, and v (2q + 3kv); the attention's output (q); the output of the MLP's first matrix and
        the product of its halves (3f); of each row that is normalised, and of each row of scores, one float32. With
        several groups of heads it also keeps q once more: the input of its norm is a copy, beside the joint tensor of
        q, k and v. The bytes were counted tensor by tensor in autograd's list.

        Args:
            fused: layers of Transformer Engine. Megatron's local layers also keep the cosines and sines of the
                rotations (4 · head_dim).
            recompute: `model.recompute`. `selective` keeps nothing of the MLP, `full` the layer's input alone.
        """
        q, kv, h, f = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.ffn
        if recompute == "full":
            return 2 * h
        statistics = 4 * self.heads + 4 * (2 + self.heads + self.kv_heads)
        mlp = 3 * f if recompute == "none" else 0
        copied = q if self.kv_heads > 1 else 0
        rotations = 0 if fused else 4 * self.head_dim
        return 2 * (4 * h + 3 * q + 3 * kv + mlp + copied + rotations) + statistics

    def kept_bytes(self, tokens: int, contexts: int, fused: bool, recompute: str = "none") -> int:
        """Activations that all layers and the last norm keep for the backward pass of `contexts` × `tokens`.

        Several contexts keep the attention's output twice: those of each context, and all behind each other. With
        `full`, the layers share the angles of the rotations, in float32.
        """
        joined = 2 * self.heads * self.head_dim if contexts > 1 and recompute != "full" and not fused else 0
        angles = 4 * self.head_dim if recompute == "full" else 0
        per_layer = self.layer_bytes(fused, recompute) + joined
        return tokens * contexts * (self.layers * per_layer + 2 * self.hidden + 4 + angles)

    def transient_bytes(self, tokens: int, fused: bool, recompute: str = "none") -> int:
        """The most that one layer's backward pass, or the output's, holds for a moment. The optimizer holds nothing.

        A layer's backward: gradients of the MLP's tensors (6f) and of the residual stream (4h), the gradient of the
        largest matrix in bf16, and of a layer that is computed again all that it keeps. The output's: the logits of a
        chunk and of those kept before it, and its matrix's gradient in float32, and in bf16.
        """
        from aworld.training.output import CHUNK, KEPT

        again = tokens * (self.layer_bytes(fused) - self.layer_bytes(fused, recompute))
        layer = 2 * tokens * (6 * self.ffn + 4 * self.hidden) + 2 * 2 * self.ffn * self.hidden + again
        kept = 4 * CHUNK * self.vocab * max(0, min(KEPT // (4 * CHUNK * self.vocab), ceil(tokens / CHUNK)) - 1)
        output = kept + HEAD_BYTES * min(tokens, CHUNK) * self.vocab + (4 + 2) * self.vocab * self.hidden
        return max(layer, output + 2 * tokens * 2 * self.hidden)


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


def build(stack: Stack, dtype: str = "bfloat16", recompute: str = "none") -> "Trainer":
    """The trainer of one rank around the stack, with random weights that go through a folder in TMPDIR.

    `model.initialize` comes first.
    """
    import torch
    from transformers import Qwen3ForCausalLM

    from aworld.config import Training
    from aworld.training.step import Trainer

    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM._from_config(hf_config(stack), dtype=getattr(torch, dtype)).save_pretrained(folder)
        return Trainer(Training(), Path(folder), dtype, 1e-6, recompute=recompute)


def micro_batch(stack: Stack, tokens: int, contexts: int) -> "MicroBatch":
    """Random tokens in a packed row, the second half of each context sampled."""
    import torch

    from aworld.training import cpu
    from aworld.training.micro_batch import MicroBatch

    rows = contexts * tokens
    ids = torch.randint(0, stack.vocab, (contexts, tokens + 1), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(tokens).repeat(contexts)
    at = (positions >= tokens // 2).nonzero()[:, 0]
    context = at // tokens
    parts = {
        "tokens": ids[:, :-1].flatten(),
        "positions": positions,
        "at": at,
        "targets": ids[:, 1:].flatten()[at],
        "logprobs": torch.full(at.shape, -log(stack.vocab)),
        "advantages": 1.0 - 2 * (context % 2),
        "weights": torch.full(at.shape, 1 / len(at)),
        "context": context,
        "places": at,
    }
    on_device = {name: part.to(cpu.device()) for name, part in parts.items()}
    return MicroBatch(starts=tuple(range(0, rows + 1, tokens)), **on_device)
