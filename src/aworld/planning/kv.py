"""The room for the KV cache of a vLLM shard, and the episodes that it plays at once."""

from dataclasses import dataclass

from aworld.config import Config
from aworld.planning.hardware import Hardware
from aworld.planning.shapes import BYTES, kv_bytes, parameters

VLLM_SHARE = 0.9  # of a GPU's memory that vLLM takes: its default of --gpu-memory-utilization
SHARD_OVERHEAD = 4e9  # of that: CUDA, NCCL, CUDA graphs, and the activations of a prefill


@dataclass(frozen=True)
class Room:
    """The KV cache of a shard.

    Attributes:
        weights: bytes on each GPU of the shard.
        cache: bytes that are left for the KV cache on each GPU; below 0 where the weights alone do not fit.
        tokens: that the cache holds.
        longest: episodes of `max_model_len` tokens that the cache holds.
        at_once: episodes that a shard plays at once, by `environment.slots` and `max_num_seqs`.
    """

    weights: float
    cache: float
    tokens: int
    longest: int
    at_once: int


def room(config: Config, hardware: Hardware) -> Room:
    """The room of one shard of the configuration."""
    model, shard = config.model, config.model.shard
    weights = BYTES[model.dtype] * parameters(model.architecture) / shard.tensor_parallel_size
    cache = VLLM_SHARE * hardware.memory - weights - SHARD_OVERHEAD
    tokens = max(0, int(cache // kv_bytes(model.architecture, model.dtype, shard.tensor_parallel_size)))
    at_once = min(config.slots, shard.max_num_seqs)
    return Room(weights, cache, tokens, tokens // shard.max_model_len, at_once)


def playing(config: Config, hardware: Hardware, mean_tokens: float) -> int:
    """Episodes that a shard plays at once: as many as slots and sequences allow, and as fit the KV cache.

    An episode under way holds half its tokens on average.
    """
    found = room(config, hardware)
    return max(1, min(found.at_once, int(found.tokens / max(mean_tokens / 2, 1))))
