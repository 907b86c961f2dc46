"""Whether trainer and shards fit the GPUs of a site, and the setting that mends a layout that does not."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from aworld.config import Config
from aworld.errors import InputError
from aworld.planning.hardware import Hardware, load
from aworld.planning.kv import SHARD_OVERHEAD, VLLM_SHARE, room
from aworld.planning.memory import Memory, memory
from aworld.planning.shapes import kv_bytes

USABLE = 0.94  # of a GPU's memory: fragments of PyTorch's allocator take the rest
RECOMPUTE = ("none", "selective", "full")  # each costs more time than the one before
PARTS = ("weights", "gradients", "optimizer", "activations", "layer", "logits", "communication", "overhead")


def check(config: Config) -> None:
    """Check that a run that trains fits the GPUs that the site's hardware names.

    Raises:
        InputError: there is no such hardware; a stage of the trainer, or a vLLM shard, needs more memory
            than a GPU has.
    """
    hardware = load(config.site)
    if refused := next(refusals(config, hardware), None) if hardware else None:
        raise InputError(refused)


def refusals(config: Config, hardware: Hardware) -> Iterator[str]:
    """A line for the trainer, and one for the shards, where they do not fit: the numbers, and the mend."""
    if config.site.train.gpus_per_node and not _fits(config, hardware):
        worst = max(memory(config), key=lambda stage: stage.needed)
        usable = f"{_gb(USABLE * hardware.memory)} of {hardware.memory_gb:g} GB to use"
        yield (
            f"model.parallel: stage {worst.stage} needs {_gb(worst.needed)} GB, and {hardware.name} has {usable} "
            f"({_parts(worst)}); {_mend(config, hardware)}"
        )
    if refused := shard_refusal(config, hardware):
        yield refused


def shard_refusal(config: Config, hardware: Hardware) -> str:
    """A line for the shards where they do not fit; else none."""
    if not config.site.rollout.gpus_per_node or (found := room(config, hardware)).longest:
        return ""
    model, shard = config.model, config.model.shard
    wanted = shard.max_model_len * kv_bytes(model.architecture, model.dtype, shard.tensor_parallel_size)
    return (
        f"model.shard: one episode of {shard.max_model_len} tokens needs {_gb(wanted)} GB of KV cache on each GPU, and "
        f"{hardware.name} has {_gb(max(found.cache, 0))} left (vLLM takes {VLLM_SHARE:.0%} of the GPU; "
        f"weights {_gb(found.weights)}, overhead {_gb(SHARD_OVERHEAD)}); {_shard_mend(config, hardware, found.tokens)}"
    )


def _fits(config: Config, hardware: Hardware) -> bool:
    return all(stage.needed <= USABLE * hardware.memory for stage in memory(config))


def _parts(stage: Memory) -> str:
    """The parts that meet at the peak."""
    unmet = {"logits" if stage.layer >= stage.logits else "layer"}
    if stage.offloaded:
        unmet |= {"optimizer"}
    return ", ".join(f"{part} {_gb(getattr(stage, part))}" for part in PARTS if part not in unmet)


def _mend(config: Config, hardware: Hardware) -> str:
    """The cheapest settings that make the trainer fit, as the end of a sentence."""
    for settings, other in _candidates(config):
        if _fits(other, hardware):
            return f"set {' '.join(settings)}"
    return "no recomputation, offload or context parallelism mends it; raise model.parallel and site.train.nodes"


def _candidates(config: Config) -> Iterator[tuple[list[str], Config]]:
    """Settings to try, the cheapest first, and the configuration with each of them.

    Recomputation takes up to a third more time, an offloaded optimizer some seconds a step. More context ranks take
    more GPUs, or leave fewer replicas.
    """
    model, training = config.model, config.training
    budget = min(training.micro_batch_tokens, model.shard.max_model_len)
    later = RECOMPUTE[RECOMPUTE.index(model.recompute) :]
    contexts = [model.parallel.context_parallel_size * factor for factor in (1, 2, 4)]
    offloads = sorted({model.offload_optimizer, True})
    for context, offload, recompute in product(contexts, offloads, later):
        parallel = replace(model.parallel, context_parallel_size=context)
        other = replace(model, parallel=parallel, recompute=recompute, offload_optimizer=offload)
        ranks = parallel.tensor_model_parallel_size * parallel.pipeline_model_parallel_size * context
        train = config.site.train
        nodes = train.nodes
        while nodes * train.tasks_per_node % ranks:
            nodes += 1
        site = replace(config.site, train=replace(train, nodes=nodes))
        changed = {
            "training.micro_batch_tokens": (training.micro_batch_tokens, budget),
            "model.recompute": (model.recompute, recompute),
            "model.offload_optimizer": (model.offload_optimizer, offload),
            "model.parallel.context_parallel_size": (model.parallel.context_parallel_size, context),
            "site.train.nodes": (train.nodes, nodes),
        }
        settings = [f"{name}={str(now).lower()}" for name, (was, now) in changed.items() if was != now]
        if settings:
            yield (
                settings,
                replace(config, model=other, site=site, training=replace(training, micro_batch_tokens=budget)),
            )


def _shard_mend(config: Config, hardware: Hardware, tokens: int) -> str:
    model, shard = config.model, config.model.shard
    tensor = 2 * shard.tensor_parallel_size
    while tensor <= config.site.rollout.gpus_per_node and model.architecture.num_attention_heads % tensor == 0:
        other = replace(model, shard=replace(shard, tensor_parallel_size=tensor))
        if room(replace(config, model=other), hardware).longest:
            return f"set model.shard.tensor_parallel_size={tensor}"
        tensor *= 2
    if tokens:
        return f"lower model.shard.max_model_len to {tokens} at most"
    return "its weights do not fit a node: choose a smaller model, or larger GPUs"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}"
