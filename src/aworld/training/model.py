"""A Hugging Face Qwen3 (dense) as a Megatron GPT model, spread over the ranks of the trainer."""

import importlib.util
import os
import sys
from dataclasses import replace

import torch
import torch.nn.functional as F
from megatron.core import parallel_state, tensor_parallel
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig
from transformers import Qwen3Config

from aworld.config import Parallel
from aworld.errors import InputError
from aworld.training import cpu, rotary
from aworld.training.collectives import is_rank_zero, join_ranks


def initialize(parallel: Parallel, seed: int, timeout_seconds: float) -> None:
    """Join this process to the other ranks, make Megatron's process groups, and seed the random number generators.

    Ranks come from the environment, as torchrun and `launch` set it.

    Args:
        timeout_seconds: how long a collective may take.

    Raises:
        InputError: the environment has no rank, or the number of ranks does not fit `parallel`.
    """
    if "RANK" not in os.environ:
        raise InputError("no RANK in the environment; start the trainer with aworld train, or with torchrun")
    world = int(os.environ["WORLD_SIZE"])
    tensor, pipeline = parallel.tensor_model_parallel_size, parallel.pipeline_model_parallel_size
    if world % (tensor * pipeline):
        raise InputError(
            f"site.train: {world} processes (nodes × tasks_per_node) are no multiple of model.parallel: {tensor} "
            f"(tensor) × {pipeline} (pipeline); change one of them"
        )
    cpu.prepare()
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    join_ranks(timeout_seconds)
    parallel_state.initialize_model_parallel(tensor, pipeline)
    if is_rank_zero() and (warning := missing(gpu, _transformer_engine())):
        print(warning, file=sys.stderr, flush=True)
    torch.manual_seed(seed)
    if gpu:
        tensor_parallel.model_parallel_cuda_manual_seed(seed)


def transformer_config(hf: Qwen3Config, dtype: torch.dtype) -> TransformerConfig:
    """Megatron's description of the model `hf` in the parallel layout of `initialize`.

    Raises:
        InputError: the layout does not divide its heads, vocabulary or layers, or its rotary positions are unknown.
    """
    tensor = parallel_state.get_tensor_model_parallel_world_size()
    pipeline = parallel_state.get_pipeline_model_parallel_world_size()
    for name, size in (("num_attention_heads", tensor), ("num_key_value_heads", tensor), ("vocab_size", tensor)):
        if getattr(hf, name) % size:
            raise InputError(
                f"model.parallel.tensor_model_parallel_size={size} does not divide {name}={getattr(hf, name)}"
            )
    if hf.num_hidden_layers % pipeline:
        raise InputError(
            f"model.parallel.pipeline_model_parallel_size={pipeline} does not divide {hf.num_hidden_layers} layers"
        )
    fused = _transformer_engine()
    return TransformerConfig(
        num_layers=hf.num_hidden_layers,
        hidden_size=hf.hidden_size,
        ffn_hidden_size=hf.intermediate_size,
        num_attention_heads=hf.num_attention_heads,
        num_query_groups=hf.num_key_value_heads,
        kv_channels=hf.head_dim,
        softmax_scale=rotary.softmax_scale(hf),
        normalization="RMSNorm",
        layernorm_epsilon=hf.rms_norm_eps,
        qk_layernorm=True,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        add_qkv_bias=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        sequence_parallel=fused and tensor > 1,
        variable_seq_lengths=pipeline > 1,
        moe_token_dispatcher_type="alltoall",  # variable_seq_lengths asks for it, even in a dense model
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        attention_softmax_in_fp32=True,
        # The loss has its own weights: sum gradients over micro-batches and replicas, and divide by nothing.
        calculate_per_token_loss=True,
        use_cpu_initialization=not torch.cuda.is_available(),
        # Weights are loaded afterwards, but this also marks the parameters that are split over tensor ranks.
        perform_initialization=True,
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        bias_activation_fusion=fused,
        bias_dropout_fusion=fused,
        apply_rope_fusion=fused,
        persist_layer_norm=fused,
    )


def build(hf: Qwen3Config, config: TransformerConfig) -> GPTModel:
    """This rank's part of the model, with random weights; logits stay split over the vocabulary.

    Raises:
        InputError: the model is no Qwen3.
    """
    if hf.model_type != "qwen3":
        raise InputError(f"the trainer knows the architecture qwen3, not {hf.model_type}; choose another model.path")
    model = GPTModel(
        config,
        _layer_spec(),
        vocab_size=hf.vocab_size,
        max_sequence_length=hf.max_position_embeddings,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        parallel_output=True,
        share_embeddings_and_output_weights=hf.tie_word_embeddings,
        position_embedding_type="rope",
    )
    model.rotary_pos_emb = rotary.Rotary(hf, config)
    return model.to(device=cpu.device(), dtype=config.params_dtype)


def missing(gpu: bool, transformer_engine: bool) -> str:
    """A warning for the user if the trainer runs on a GPU without Transformer Engine; else ""."""
    if not gpu or transformer_engine:
        return ""
    return (
        "warning: Transformer Engine is not installed here: without its fused layers and sequence parallelism, "
        "activations take up to twice the memory; use an image that has it for site.images.megatron (docs/gpu.md)"
    )


def _transformer_engine() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("transformer_engine") is not None


def _layer_spec() -> ModuleSpec:
    if _transformer_engine():
        return get_gpt_layer_with_transformer_engine_spec(qk_layernorm=True)
    spec = get_gpt_layer_local_spec(qk_layernorm=True, normalization="RMSNorm")
    attention = spec.submodules.self_attention
    attention.submodules = replace(attention.submodules, core_attention=CausalAttention)
    return spec


class CausalAttention(MegatronModule):
    """softmax(QKᵀ/√d)·V under the causal mask, in PyTorch's fused kernel, which never holds the s × s scores.

    It replaces Megatron's `DotProductAttention`, and takes its arguments.
    """

    def __init__(self, config: TransformerConfig, softmax_scale: float | None = None, **_: object):
        super().__init__(config=config)
        self.scale = softmax_scale

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object
    ) -> torch.Tensor:
        """The attention's output, [s, b, heads · d].

        Args:
            query: [s, b, heads, d].
            key, value: [s, b, kv_heads, d].
        """
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        gqa = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=gqa)
        return out.permute(2, 0, 1, 3).flatten(2)
