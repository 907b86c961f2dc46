"""The GPU memory of each pipeline stage of the trainer, counted by running its code without a GPU and without memory.

    python benchmarks/fake_memory.py recipe=grpo model=qwen3-32b site.train.nodes=4 [stages=0,3]

One rank of each stage is built and run: the product's `Trainer` (Megatron's layers, distributed optimizer, pipeline
schedule, our loss) on fake tensors, which have shapes and storages of a size, but no bytes. Collectives return at once.
The bytes of all storages alive are added up.

What differs from a rank on a GPU:
- Transformer Engine is not there. Its attention keeps what PyTorch's flash attention keeps: q, k, v, the output and a
  float32 per head and token. With context parallelism it passes keys and values on instead of gathering them.
- Stages do not tell each other the length of a micro-batch; Megatron's schedule is given it.
Not counted: the contexts of CUDA and NCCL and the workspaces of cuBLAS, and what the allocator wastes.
"""

import gc
import json
import sys
import tempfile
import weakref
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen3Config

from aworld import config as configuration
from aworld.config import Config, Model
from aworld.training import algorithms, attention, cpu
from aworld.training.loss import policy_loss
from aworld.training.micro_batch import MicroBatch
from aworld.training.step import Trainer

SAMPLED = 0.5  # the share of tokens that the policy sampled
BYTES_OF_WEIGHT_AND_GRADIENT = 2 + 4


class Alive(TorchDispatchMode):
    """Adds up the bytes of the storages alive, by the operation that made them and its result's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()
        self.now = self.peak = 0
        self.by: Counter = Counter()
        self.at_peak: Counter = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf, str(func).removeprefix("aten.").split(".")[0])
        return out

    def _add(self, tensor: torch.Tensor, operation: str) -> None:
        storage = tensor.untyped_storage()
        key, size, label = storage._cdata, storage.nbytes(), (operation, tuple(tensor.shape))
        if key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.by[label] += size
        weakref.finalize(storage, self._drop, key, size, label)
        if self.now > self.peak:
            self.reset()

    def _drop(self, key: int, size: int, label: Any) -> None:
        self.seen.remove(key)
        self.now -= size
        self.by[label] -= size

    def reset(self) -> None:
        self.peak, self.at_peak = self.now, Counter(self.by)


def main() -> None:
    stages = [word for word in sys.argv[1:] if word.startswith("stages=")]
    config = configuration.load([*(word for word in sys.argv[1:] if word not in stages), "model.path=/"])
    chosen = [int(stage) for stage in stages[0].removeprefix("stages=").split(",")] if stages else None
    for stage in chosen or range(config.model.parallel.pipeline_model_parallel_size):
        print(json.dumps(of_stage(config, stage)), flush=True)


def of_stage(config: Config, stage: int) -> dict[str, Any]:
    """The memory of a rank of one pipeline stage: bytes, by what holds them.

    Keys: `stage`; `parameters`, a number; `state`: weights, gradients and optimizer; `peak` of a step; `held`: the
    largest tensors at the peak, as (operation, shape, bytes).
    """

    cpu.prepare()
    attention.causal_lower_right = lambda *_: None  # a tensor of its own kind; a GPU's kernels have the mask in them
    parallel = config.model.parallel
    tensor, context = parallel.tensor_model_parallel_size, parallel.context_parallel_size
    pipeline = parallel.pipeline_model_parallel_size
    ranks = config.site.train.tasks
    rank = stage * (ranks // pipeline)
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    create = parallel_state.create_group
    parallel_state.create_group = lambda *args, **kwargs: create(*args, **(kwargs | {"backend": None}))  # gloo's, too
    dist.all_gather_object = lambda found, value, group=None: found.__setitem__(slice(None), [value] * len(found))
    parallel_state.initialize_model_parallel(tensor, pipeline, context_parallel_size=context)
    alive = Alive()
    with tempfile.TemporaryDirectory() as folder, FakeTensorMode(allow_non_fake_inputs=True), alive:
        _write_config(config.model, Path(folder))
        trainer = Trainer(
            config.training, Path(folder), config.model.dtype, 6e-6, has_weights=False, recompute=config.model.recompute
        )
        gc.collect()
        state = alive.now
        settings = trainer.module.config
        settings.variable_seq_lengths = False
        settings.finalize_model_grads_func = lambda *_, **__: None  # sums in place, in buffers that the state counts
        length = max(config.training.micro_batch_tokens, config.model.shard.max_model_len)
        trainer.schedule = _with_length(trainer.schedule, length)
        batches = [_micro_batch(length, context) for _ in range(pipeline)]  # more are never held at once
        alive.reset()
        trainer.model.zero_grad_buffer()
        trainer._run(batches, partial(policy_loss, algorithms.make(config.training)), 1.0, None)
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
    parameters = sum(p.numel() for p in trainer.module.parameters())
    peak = alive.peak
    if config.model.offload_optimizer:  # to the host, but for the optimizer's step
        peak = max(state, peak - (state - BYTES_OF_WEIGHT_AND_GRADIENT * parameters))
    held = [(op, list(shape), size) for (op, shape), size in alive.at_peak.most_common(12)]
    return {"stage": stage, "parameters": parameters, "state": state, "peak": peak, "held": held}


def _write_config(model: Model, folder: Path) -> None:
    values = asdict(model.architecture)
    theta = values.pop("rope_theta")
    hf = Qwen3Config(**values, rope_parameters={"rope_type": "default", "rope_theta": theta})
    (folder / "config.json").write_text(json.dumps(hf.to_dict() | {"architectures": ["Qwen3ForCausalLM"]}, default=str))


def _with_length(schedule: Any, length: int) -> Any:
    def run(**arguments: Any) -> Any:
        return schedule(**(arguments | {"seq_length": length, "micro_batch_size": 1}))

    return run


def _micro_batch(length: int, context: int) -> Any:
    """A row of two contexts, as a rank of context parallelism holds it."""
    own, n = length // context, int(length * SAMPLED) // context
    integers = [torch.zeros(size, dtype=torch.int64) for size in (own, own, n, n, n, n)]
    tokens, positions, at, targets, of, places = integers
    return MicroBatch(tokens, positions, (0, length // 2, length), at, targets, *torch.zeros(3, n), of, places)


if __name__ == "__main__":
    main()
