"""Bytes that a rank of the trainer needs on its GPU, part by part, for each pipeline stage.

The layers are those of the trainer without Transformer Engine, which keeps less. Sequence parallelism is on where
`tensor_model_parallel_size` is above 1. Each term was read off a step of the trainer under fake tensors. In formulas
h is the hidden size, q and kv are the widths of query and key, f is the MLP's width, t the tensor size, and b the bytes
of an activation.
"""

from dataclasses import dataclass
from math import ceil

from aworld.config import Config
from aworld.planning.shapes import BYTES, key_width, layer_matrices, layer_norms, query_width

OVERHEAD = 3e9  # CUDA's context, NCCL's buffers, cuBLAS's workspaces
CHUNK = 1024  # sampled tokens whose logits are computed at once
KEPT = 1 << 28  # bytes of float32 log-probabilities of the vocabulary that the forward pass leaves for backward
LOGIT_BYTES = 2 + 3 * 4  # of an entry of a chunk: bf16, and in float32 what the entropy's gradient needs at most
GRADIENT_BYTES = 4  # of a parameter: float32
# of a parameter: in float32 Adam's two moments, and where the weights are bf16 their copy
OPTIMIZER_BYTES = {"bfloat16": 12, "float32": 8}


@dataclass(frozen=True)
class Memory:
    """Bytes of a rank of one pipeline stage, at the peak of a step.

    Attributes:
        stage: from 0.
        optimizer: Adam's moments and the float32 weights, this rank's share of them.
        offloaded: whether the optimizer's part is on the GPU only while activations are not.
        activations: what the layers keep for the backward pass, of all micro-batches under way.
        layer: what the backward pass of one layer holds.
        logits: of a chunk and of those kept before it, with the hidden states of all sampled tokens; on the last stage
            only.
        communication: gathered sequences, and messages between stages.
    """

    stage: int
    weights: float
    gradients: float
    optimizer: float
    offloaded: bool
    activations: float
    layer: float
    logits: float
    communication: float
    overhead: float = OVERHEAD

    @property
    def needed(self) -> float:
        """The peak: of the forward and backward pass, or of the optimizer's step.

        The logits are gone when a layer's backward pass begins: the larger of the two counts.
        """
        passing = self.activations + max(self.layer, self.logits) + self.communication
        held = max(passing, self.optimizer) if self.offloaded else passing + self.optimizer
        return self.weights + self.gradients + self.overhead + held


def row_tokens(config: Config) -> int:
    """Tokens of the longest row that a micro-batch can have. A context longer than the budget has a row of its own."""
    return max(config.training.micro_batch_tokens, config.model.shard.max_model_len)


def replicas(config: Config) -> int:
    """Data-parallel replicas of the model; 1 where the ranks of the site are too few."""
    parallel = config.model.parallel
    ranks = parallel.tensor_model_parallel_size * parallel.pipeline_model_parallel_size * parallel.context_parallel_size
    return max(1, config.site.train.tasks // ranks)


def stage_parameters(config: Config, stage: int) -> float:
    """Parameters of a rank of a pipeline stage. Matrices are split over tensor ranks, norms are not."""
    a, parallel = config.model.architecture, config.model.parallel
    tensor, stages = parallel.tensor_model_parallel_size, parallel.pipeline_model_parallel_size
    found = a.num_hidden_layers / stages * (layer_matrices(a) / tensor + layer_norms(a))
    vocabulary = a.vocab_size * a.hidden_size / tensor
    is_first, is_last = stage == 0, stage == stages - 1
    if is_first:
        found += vocabulary
    if is_last:
        found += a.hidden_size
        if not (is_first and a.tie_word_embeddings):  # a tied one has a copy on the last stage
            found += vocabulary
    return found


def memory(config: Config) -> list[Memory]:
    """The memory of a rank of each pipeline stage."""
    return [_stage(config, stage) for stage in range(config.model.parallel.pipeline_model_parallel_size)]


def _stage(config: Config, stage: int) -> Memory:
    model, parallel = config.model, config.model.parallel
    tensor, stages = parallel.tensor_model_parallel_size, parallel.pipeline_model_parallel_size
    b, h = BYTES[model.dtype], model.architecture.hidden_size
    tokens = row_tokens(config) / parallel.context_parallel_size
    parameters = stage_parameters(config, stage)
    # 1F1B: a stage holds as many micro-batches as stages follow it, and its own (Narayanan et al. 2021, section 2.2).
    held = stages - stage
    layers = model.architecture.num_hidden_layers / stages
    messages = held * b * h / tensor  # outputs on their way to the next stage
    gathered = b * h if tensor > 1 else 0  # the sequence before a matrix, of all tensor ranks
    return Memory(
        stage=stage,
        weights=b * parameters,
        gradients=GRADIENT_BYTES * parameters,
        # The distributed optimizer shares it out over data-parallel and context ranks.
        optimizer=OPTIMIZER_BYTES[model.dtype] * parameters / (replicas(config) * parallel.context_parallel_size),
        offloaded=model.offload_optimizer,
        activations=tokens * held * layers * _kept(config),
        layer=tokens * _held_by_one_layer(config),
        logits=_logits(config, tokens) if stage == stages - 1 else 0.0,
        communication=tokens * (gathered + messages + _gathered_keys(config)),
    )


def _kept(config: Config) -> float:
    """Bytes of a token that each layer keeps for its backward pass.

    Without recomputation b/t · (4h + 3q + 3kv + 3f): input and output of both norms (4h); Q, K and V together, Q and K
    after their rotation, the attention's output (3q + 3kv); the outputs of the MLP's first matrix (2f) and the input of
    its second (f). `selective` drops 3f; `full` keeps the layer's input (h) alone. Korthikanti et al. 2022 (arXiv
    2205.05198) count the same for GPT.
    """
    a, b, tensor = config.model.architecture, BYTES[config.model.dtype], _tensor(config)
    if config.model.recompute == "full":
        return b * a.hidden_size / tensor
    mlp = 0 if config.model.recompute == "selective" else 3 * a.intermediate_size
    return b / tensor * (_attention_values(config) + mlp) + _statistics(config) + _unfused(config)


def _held_by_one_layer(config: Config) -> float:
    """Bytes of a token that one layer's backward pass holds: what it computes again, and gradients.

    The gradients are those of the MLP (4f) and of the residual stream (2h).
    """
    a, b, tensor = config.model.architecture, BYTES[config.model.dtype], _tensor(config)
    mlp = 3 * a.intermediate_size
    again = {"none": 0, "selective": mlp, "full": _attention_values(config) + mlp}[config.model.recompute]
    return b / tensor * (again + 4 * a.intermediate_size + 2 * a.hidden_size)


def _attention_values(config: Config) -> int:
    a = config.model.architecture
    return 4 * a.hidden_size + 3 * query_width(a) + 3 * key_width(a)


def _unfused(config: Config) -> float:
    """What Transformer Engine would not keep: cosines and sines of the rotations, 4 · b · head_dim, and copies.

    The attention's output (q), joined from that of each context; the query (q), where a rank has several key heads; and
    with context parallelism the keys and values of the other ranks (2kv each).
    """
    a, b = config.model.architecture, BYTES[config.model.dtype]
    others = config.model.parallel.context_parallel_size - 1
    queries = 2 if a.num_key_value_heads > _tensor(config) else 1
    return 4 * b * a.head_dim + b / _tensor(config) * (queries * query_width(a) + others * 2 * key_width(a))


def _statistics(config: Config) -> float:
    """float32: the log-sum-exp of each head's scores, and 1/rms of each row that is normalised."""
    a = config.model.architecture
    return 4 / _tensor(config) * (a.num_attention_heads + 2 + a.num_attention_heads + a.num_key_value_heads)


def _gathered_keys(config: Config) -> float:
    """Bytes of a token for the keys and values that come from the other context ranks, and their gradients."""
    others = config.model.parallel.context_parallel_size - 1
    b = BYTES[config.model.dtype]
    return others * 2 * 2 * b * key_width(config.model.architecture) / _tensor(config)


def _logits(config: Config, tokens: float) -> float:
    """Bytes of logits, of the output layer's float32 gradient, and of the hidden states with their gradient.

    The logits are those of a chunk, and of the chunks before it that are kept for the backward pass. All tokens may be
    sampled ones; the hidden states of all tensor ranks are gathered.
    """
    a, b = config.model.architecture, BYTES[config.model.dtype]
    vocabulary = a.vocab_size / _tensor(config)
    chunk = min(CHUNK, tokens) * vocabulary * LOGIT_BYTES
    kept = min(KEPT // (4 * CHUNK * vocabulary), ceil(tokens / CHUNK))
    before = max(0, kept - 1) * 4 * CHUNK * vocabulary
    return chunk + before + 4 * vocabulary * a.hidden_size + 2 * b * tokens * a.hidden_size


def _tensor(config: Config) -> int:
    return config.model.parallel.tensor_model_parallel_size
