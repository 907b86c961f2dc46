"""Parameters, FLOPs and bytes that follow from a model's architecture: dense Qwen3."""

from collections.abc import Iterable

from aworld.config import Architecture

BYTES = {"bfloat16": 2, "float32": 4}  # of a weight and an activation, by `model.dtype`


def query_width(a: Architecture) -> int:
    """The query's values of a token in one layer: heads × head_dim."""
    return a.num_attention_heads * a.head_dim


def key_width(a: Architecture) -> int:
    """The key's values of a token in one layer; the value has as many."""
    return a.num_key_value_heads * a.head_dim


def layer_matrices(a: Architecture) -> int:
    """Parameters of one layer's matrices: Q, K, V and the output projection, gate, up and down."""
    attention = a.hidden_size * (2 * query_width(a) + 2 * key_width(a))
    return attention + 3 * a.hidden_size * a.intermediate_size


def layer_norms(a: Architecture) -> int:
    """Parameters of one layer's norms, which every tensor rank holds whole."""
    return 2 * a.hidden_size + 2 * a.head_dim


def parameters(a: Architecture) -> int:
    """All parameters of the model."""
    vocabulary = a.vocab_size * a.hidden_size * (1 if a.tie_word_embeddings else 2)
    return a.num_hidden_layers * (layer_matrices(a) + layer_norms(a)) + a.hidden_size + vocabulary


def matmul_parameters(a: Architecture) -> int:
    """Parameters that a token is multiplied with: all matrices but the embedding, which is looked up."""
    return a.num_hidden_layers * layer_matrices(a) + a.vocab_size * a.hidden_size


def forward_flops(a: Architecture, lengths: Iterable[int]) -> float:
    """FLOPs of a forward pass over contexts of these lengths: 2 per parameter and token, and attention.

    Of the s × s scores only the causal half is counted: 2 · s² · heads · head_dim a layer. A training step takes three
    times as many (Narayanan et al. 2021, arXiv 2104.04473, appendix).
    """
    known = list(lengths)
    return summed_flops(a, sum(known), sum(s * s for s in known))


def summed_flops(a: Architecture, tokens: int, squares: int) -> float:
    """As `forward_flops`, of contexts with so many tokens in all, and with this sum of their squared lengths."""
    attention = 2 * query_width(a) * a.num_hidden_layers
    return float(2 * matmul_parameters(a) * tokens + attention * squares)


def recomputed_flops(a: Architecture, lengths: Iterable[int], recompute: str) -> float:
    """FLOPs that `model.recompute` adds to a training step: nothing, the MLPs' forward pass, or the whole one."""
    if recompute == "full":
        return forward_flops(a, lengths)
    mlp = 2 * 3 * a.hidden_size * a.intermediate_size * a.num_hidden_layers
    return float(mlp * sum(lengths)) if recompute == "selective" else 0.0


def kv_bytes(a: Architecture, dtype: str, tensor: int = 1) -> int:
    """Bytes of a token in the KV cache of one of `tensor` GPUs. A GPU holds one head at least."""
    heads = max(1, a.num_key_value_heads // tensor)
    return 2 * heads * a.head_dim * a.num_hidden_layers * BYTES[dtype]
