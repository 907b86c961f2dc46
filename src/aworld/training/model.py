"""A Hugging Face Qwen3 (dense) as a Megatron GPT model, spread over the ranks of the trainer."""

import importlib.util
import os
import sys
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state, tensor_parallel
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from transformers import Qwen3Config

from aworld.config import Parallel
from aworld.errors import InputError
from aworld.training import cpu
from aworld.training.attention import CausalAttention, fused_attention
from aworld.training.collectives import is_rank_zero, join_ranks
from aworld.training.norm import RMSNorm
from aworld.training.rotary import Rotary, softmax_scale

# Megatron's settings for each value of model.recompute.
_RECOMPUTE: dict[str, dict[str, Any]] = {
    "none": {},
    "selective": {"recompute_granularity": "selective", "recompute_modules": ["mlp"]},
    "full": {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1},
}


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
    context = parallel.context_parallel_size
    if world % (tensor * pipeline * context):
        raise InputError(
            f"site.train: {world} processes (nodes × tasks_per_node) are no multiple of model.parallel: {tensor} "
            f"(tensor) × {pipeline} (pipeline) × {context} (context); change one of them"
        )
    cpu.prepare()
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    join_ranks(timeout_seconds)
    parallel_state.initialize_model_parallel(tensor, pipeline, context_parallel_size=context)
    if is_rank_zero() and (warning := missing(gpu, _transformer_engine())):
        print(warning, file=sys.stderr, flush=True)
    torch.manual_seed(seed)
    if gpu:
        tensor_parallel.model_parallel_cuda_manual_seed(seed)


def transformer_config(hf: Qwen3Config, dtype: torch.dtype, recompute: str = "none") -> TransformerConfig:
    """Megatron's description of the model `hf` in the parallel layout of `initialize`.

    Args:
        recompute: `model.recompute`.

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
        **_RECOMPUTE[recompute],
        num_layers=hf.num_hidden_layers,
        hidden_size=hf.hidden_size,
        ffn_hidden_size=hf.intermediate_size,
        num_attention_heads=hf.num_attention_heads,
        num_query_groups=hf.num_key_value_heads,
        kv_channels=hf.head_dim,
        softmax_scale=softmax_scale(hf),
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
        context_parallel_size=parallel_state.get_context_parallel_world_size(),
        sequence_parallel=tensor > 1,
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
        bias_activation_fusion=True,  # keeps the MLP's input of the activation for backward, not its parts
        bias_dropout_fusion=fused,
        apply_rope_fusion=fused,
        persist_layer_norm=fused,
    )


class Policy(GPTModel):
    """Megatron's GPT over packed rows, whose last stage returns hidden states: logits are computed with the loss."""

    def __init__(self, hf: Qwen3Config, config: TransformerConfig):
        super().__init__(
            config,
            _layers(config),
            vocab_size=hf.vocab_size,
            max_sequence_length=hf.max_position_embeddings,
            pre_process=parallel_state.is_pipeline_first_stage(),
            post_process=parallel_state.is_pipeline_last_stage(),
            share_embeddings_and_output_weights=hf.tie_word_embeddings,
            position_embedding_type="none",
        )
        self.rotary = Rotary(hf)

    @property
    def output_weight(self) -> torch.Tensor:
        """What hidden states are multiplied with, [vocabulary / tensor ranks, hidden size]; on the last stage."""
        tied = self.share_embeddings_and_output_weights
        return self.shared_embedding_or_output_weight() if tied else self.output_layer.weight

    def _preprocess(self, input_ids: torch.Tensor, position_ids: torch.Tensor, **kwargs: Any) -> tuple[Any, ...]:
        hidden, _, *rest = super()._preprocess(input_ids, position_ids, **kwargs)
        return hidden, self.rotary(position_ids[0]), *rest

    def _postprocess(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states


def build(hf: Qwen3Config, config: TransformerConfig) -> Policy:
    """This rank's part of the model, with random weights.

    Raises:
        InputError: the model is no Qwen3.
    """
    if hf.model_type != "qwen3":
        raise InputError(f"the trainer knows the architecture qwen3, not {hf.model_type}; choose another model.path")
    return Policy(hf, config)


def missing(gpu: bool, transformer_engine: bool) -> str:
    """A warning for the user if the trainer runs on a GPU without Transformer Engine; else ""."""
    if not gpu or transformer_engine:
        return ""
    return (
        "warning: Transformer Engine is not installed here: training is slower without its fused layers; use an image "
        "that has it for site.images.megatron (docs/gpu.md)"
    )


def _transformer_engine() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("transformer_engine") is not None


def _layers(config: TransformerConfig) -> ModuleSpec | TransformerBlockSubmodules:
    """What the layers of this stage are made of."""
    fused = _transformer_engine()
    spec = (
        get_gpt_layer_with_transformer_engine_spec(qk_layernorm=True)
        if fused
        else get_gpt_layer_local_spec(qk_layernorm=True, normalization="RMSNorm")
    )
    layer, attention = spec.submodules, spec.submodules.self_attention
    if fused:
        attention.submodules = replace(attention.submodules, core_attention=fused_attention())
        return spec
    attention.submodules = replace(
        attention.submodules, core_attention=CausalAttention, q_layernorm=RMSNorm, k_layernorm=RMSNorm
    )
    spec.submodules = replace(layer, input_layernorm=RMSNorm, pre_mlp_layernorm=RMSNorm)
    return TransformerBlockSubmodules([spec] * get_num_layers_to_build(config), RMSNorm)
