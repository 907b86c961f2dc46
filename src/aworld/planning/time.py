"""Seconds of a round's phases, from FLOPs, bytes and what the hardware reaches of its peaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from aworld.config import Architecture, Config
from aworld.planning.hardware import Hardware
from aworld.planning.kv import playing
from aworld.planning.memory import memory, replicas, row_tokens
from aworld.planning.shapes import (
    BYTES,
    forward_flops,
    kv_bytes,
    matmul_parameters,
    parameters,
    recomputed_flops,
)
from aworld.planning.simulate import Outcome, Preemption, makespan

ENGINE_SECONDS = 60.0  # to start vLLM or Megatron once weights are read: compilation, CUDA graphs, process groups
CHECKPOINT_BYTES = 12  # of a parameter: its float32 value, and two moments


@dataclass(frozen=True)
class Episodes:
    """A round's episodes.

    Attributes:
        lengths: tokens of each.
        sampled: the share of them that the policy samples; prompts and tools' results are the rest.
        tool_seconds: of each episode, on average.
    """

    lengths: Sequence[int]
    sampled: float = 0.5
    tool_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def mean(self) -> float:
        return fmean(self.lengths)


@dataclass(frozen=True)
class Phase:
    """Seconds of a phase in each round.

    Attributes:
        work: of playing, or of training.
        files: reading and writing weights, checkpoints and trajectories.
        start: of an engine and what it reads at its start; once a round in batch mode, once a run in resident mode.
    """

    work: float
    files: float = 0.0
    start: float = 0.0

    def seconds(self, is_batch: bool) -> float:
        """Seconds of a round."""
        return self.work + self.files + (self.start if is_batch else 0.0)


def train(config: Config, hardware: Hardware, episodes: Episodes) -> Phase:
    """The optimizer's steps over a round, its policy and its checkpoint."""
    model, training, site = config.model, config.training, config.site
    a, gpus = model.architecture, site.train.tasks
    steps = max(1, -(-len(episodes.lengths) // training.batch_size)) * training.epochs
    computed = training.epochs * compute_seconds(a, episodes.lengths, hardware, gpus, model.recompute)
    rows = max(1.0, episodes.tokens * training.epochs / row_tokens(config) / steps / replicas(config))
    stages = model.parallel.pipeline_model_parallel_size
    bubble = 1 + (stages - 1) / rows  # of 1F1B: Narayanan et al. 2021, section 2.2
    between = steps * (_reduce_seconds(config, hardware) + _offload_seconds(config, hardware))
    file_system = hardware.file_system_gb_per_second * 1e9
    size = parameters(a)
    published = BYTES[model.dtype] * size / file_system  # rank 0 writes the policy
    saved = CHECKPOINT_BYTES * size / (site.train.nodes * file_system)  # every node its share
    return Phase(
        computed * bubble + between, published + saved, ENGINE_SECONDS + saved
    )  # it reads the newest checkpoint


def compute_seconds(a: Architecture, lengths: Sequence[int], hardware: Hardware, gpus: int, recompute: str) -> float:
    """Seconds of forward and backward passes over contexts of these lengths, without the pipeline's bubble."""
    flops = 3 * forward_flops(a, lengths) + recomputed_flops(a, lengths, recompute)
    return flops / (gpus * hardware.flops)


def _reduce_seconds(config: Config, hardware: Hardware) -> float:
    """Seconds of a step in which replicas and context ranks sum gradients (float32) and share weights.

    A ring moves 2 (n − 1)/n of a rank's bytes, half of it gradients and half weights; a node's GPUs share its network.
    """
    ranks = replicas(config) * config.model.parallel.context_parallel_size
    worst = max(stage.gradients + stage.weights for stage in memory(config))
    each = hardware.network_gb_per_second * 1e9 / max(1, config.site.train.tasks_per_node)
    return worst * (ranks - 1) / ranks / each


def _offload_seconds(config: Config, hardware: Hardware) -> float:
    """Seconds of a step in which the optimizer's part comes to the GPU and goes back."""
    if not config.model.offload_optimizer:
        return 0.0
    return 2 * max(stage.optimizer for stage in memory(config)) / (hardware.host_gb_per_second * 1e9)


def rollout(config: Config, hardware: Hardware, episodes: Episodes, preemption: Preemption) -> tuple[Phase, Outcome]:
    """A round's episodes on all shards of the site."""
    shard, a = config.model.shard, config.model.architecture
    at_once = playing(config, hardware, episodes.mean)
    workers = config.site.rollout.workers
    each = min(at_once, max(1, -(-len(episodes.lengths) // workers)))
    step = decode_step_seconds(config, hardware, each, episodes.mean / 2)
    prefill = forward_flops(a, [1]) / (shard.tensor_parallel_size * hardware.flops)
    seconds = [
        length * episodes.sampled * step + length * (1 - episodes.sampled) * prefill + episodes.tool_seconds
        for length in episodes.lengths
    ]
    outcome = makespan(seconds, workers, at_once, preemption, seed=config.seed)
    # Each worker of a node reads the whole policy.
    size = BYTES[config.model.dtype] * parameters(a) * config.site.rollout.tasks_per_node
    return Phase(outcome.seconds, size / (hardware.file_system_gb_per_second * 1e9), ENGINE_SECONDS), outcome


def decode_step_seconds(config: Config, hardware: Hardware, at_once: int, held_tokens: float) -> float:
    """Seconds in which a shard samples one token of each of `at_once` episodes, which hold `held_tokens` on average.

    Weights and KV cache are read, the products computed, and each layer's two sums exchanged. The three are added up:
    engines do not overlap them fully.
    """
    model = config.model
    a, tensor, b = model.architecture, model.shard.tensor_parallel_size, BYTES[model.dtype]
    cache = at_once * held_tokens * kv_bytes(a, model.dtype, tensor)
    read = (b * parameters(a) / tensor + cache) / (hardware.hbm_gb_per_second * 1e9 * hardware.decode_share)
    computed = 2 * matmul_parameters(a) * at_once / tensor / hardware.flops
    summed = 2 * a.num_hidden_layers * at_once * a.hidden_size * b * 2 * (tensor - 1) / tensor
    return read + computed + summed / (hardware.nvlink_gb_per_second * 1e9)
