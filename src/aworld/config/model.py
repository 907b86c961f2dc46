"""The policy's model, and its layout on GPUs."""

from dataclasses import dataclass

from omegaconf import MISSING

from aworld.config.fields import choice, number, setting


@dataclass
class Architecture:
    """Qwen3, dense; the names of its HF config.json."""

    vocab_size: int = number(MISSING, at_least=1)
    hidden_size: int = number(MISSING, at_least=1)
    intermediate_size: int = number(MISSING, at_least=1)
    num_hidden_layers: int = number(MISSING, at_least=1)
    num_attention_heads: int = number(MISSING, at_least=1)
    num_key_value_heads: int = number(MISSING, at_least=1)
    head_dim: int = number(MISSING, at_least=1)
    max_position_embeddings: int = number(MISSING, at_least=1)
    tie_word_embeddings: bool = False
    rope_theta: float = number(1e6, above=0)
    rms_norm_eps: float = number(1e-6, above=0)
    initializer_range: float = number(0.02, above=0)


@dataclass
class Yarn:
    """YaRN, for contexts longer than the model was trained on: up to factor × original_max_position_embeddings tokens.

    It changes short contexts too, so the factor is best as low as the lengths allow.
    """

    factor: float = number(1.0, at_least=1)  # 1: none, unless the checkpoint's config.json has it
    original_max_position_embeddings: int = number(32768, at_least=1)  # of the training; Qwen3's own


@dataclass
class Parallel:
    """Megatron's layout of the trainer; data parallelism takes what is left of the processes."""

    tensor_model_parallel_size: int = number(1, at_least=1)
    pipeline_model_parallel_size: int = number(1, at_least=1)
    context_parallel_size: int = number(1, at_least=1)  # ranks that share the tokens of each context


@dataclass
class Shard:
    """One vLLM server."""

    tensor_parallel_size: int = number(1, at_least=1)
    max_model_len: int = number(2048, at_least=1, changes="in a benchmark")  # tokens, prompt and response
    max_num_seqs: int = number(32, at_least=1)
    kv_cache_gb: float = number(0.25, above=0)  # CPU only; on a GPU vLLM takes what is free
    startup_seconds: float = number(600.0, above=0)


@dataclass
class Model:
    """The policy's architecture and layout. `configs/model/`."""

    name: str = MISSING
    path: str | None = MISSING  # folder of an HF checkpoint; null: random weights of this architecture
    dtype: str = choice("float32", "float32", "bfloat16")
    architecture: Architecture = setting(Architecture)
    yarn: Yarn = setting(Yarn)
    parallel: Parallel = setting(Parallel, changes="any time")
    # which activations the trainer computes again in the backward pass: none; selective: those of the MLPs; full: all
    # but the input of each layer
    recompute: str = choice("none", "none", "selective", "full", changes="any time")
    offload_optimizer: bool = setting(False, changes="any time")  # its state is in the host's memory between steps
    shard: Shard = setting(Shard, changes="any time")
