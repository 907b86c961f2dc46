# ruff: noqa: E402  (Transformer Engine is hidden before Megatron looks for it)
"""The trainer in one process, on the GPU where CUDA is visible, else on the CPU; its results, written to files.

One argument, JSON:
    dtype: `float32` or `bfloat16`.
    out: an existing folder.
    policies: name → [HF folder, HDF5 file of trajectories].
    steps: optimizer steps to make; 0: only the log-probabilities.
    hide_transformer_engine: run as where Transformer Engine is not installed.
"""

import json
import sys
from pathlib import Path

words = json.loads(sys.argv[1])
if words["hide_transformer_engine"]:
    # Imports of them fail from now on. With Apex alone Adam would be Apex's.
    sys.modules |= {"transformer_engine": None, "apex": None}  # type: ignore[dict-item]
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import in_layout
import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from transformers import AutoConfig

from aworld.config import Parallel
from aworld.training import checkpoint, cpu, model
from aworld.training.checkpoint import Checkpoints, Position
from aworld.training.step import Trainer
from aworld.trajectories import arrays, file


def main() -> None:
    model.initialize(Parallel(), 0, 300)
    for name, (path, sampled) in words["policies"].items():
        trajectories = file.read(Path(sampled))
        out = Path(words["out"]) / name
        out.mkdir()
        trainer = Trainer(in_layout.TRAINING, Path(path), words["dtype"], in_layout.TRAINING.lr)
        np.save(out / "logprobs.npy", trainer.logprobs(trajectories))
        (out / "parts.json").write_text(json.dumps(parts(trainer, Path(path))))
        if words["steps"]:
            train(trainer, Path(path), out, trajectories)
    dist.destroy_process_group()


def train(trainer: Trainer, path: Path, out: Path, trajectories: arrays.Trajectories) -> None:
    metrics = in_layout.steps(trainer, path, trajectories, 0, 1)
    in_layout.export(trainer, path, out / "after-one-step")
    metrics += in_layout.steps(trainer, path, trajectories, 1, words["steps"])
    in_layout.export(trainer, path, out / "trained")
    checkpoints = Checkpoints(out, lambda _: None)
    checkpoints.save(trainer, Position(1), [])
    checkpoints.finish()
    again = Trainer(in_layout.TRAINING, path, words["dtype"], in_layout.TRAINING.lr)
    checkpoint.load(again, out, Position(1))
    in_layout.export(again, path, out / "loaded")
    # The moments of Adam are not exported: one more step of both shows them.
    more = [in_layout.steps(one, path, trajectories, words["steps"], words["steps"] + 1)[0] for one in (trainer, again)]
    in_layout.export(trainer, path, out / "went-on")
    in_layout.export(again, path, out / "resumed")
    (out / "metrics.json").write_text(json.dumps(metrics + more))


def parts(trainer: Trainer, path: Path) -> dict[str, object]:
    """What the trainer is built from here; `sequence_parallel` is the setting in a layout of two tensor ranks."""
    config, layer = trainer.module.config, trainer.module.decoder.layers[0]
    parallel_state.set_tensor_model_parallel_world_size(2)
    try:
        of_two = model.transformer_config(AutoConfig.from_pretrained(path), trainer.dtype)
    finally:
        parallel_state.set_tensor_model_parallel_world_size(None)
    (optimizer, *_) = getattr(trainer.optimizer, "chained_optimizers", [trainer.optimizer])
    return {
        "device": next(trainer.module.parameters()).device.type,
        "dtype": str(trainer.dtype),
        "backend": dist.get_backend(),
        "gradients": str(next(trainer.module.parameters()).main_grad.dtype),
        "attention": kind(layer.self_attention.core_attention),
        "linear": kind(layer.mlp.linear_fc1),
        "norm": kind(trainer.module.decoder.final_layernorm),
        "adam": kind(optimizer.optimizer),
        "fused": [
            name for name in ("bias_dropout_fusion", "apply_rope_fusion", "persist_layer_norm") if getattr(config, name)
        ],
        "sequence_parallel": of_two.sequence_parallel,
        "memory": torch.cuda.max_memory_allocated() if cpu.device().type == "cuda" else 0,
    }


def kind(thing: object) -> str:
    """Module and name of its class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


if __name__ == "__main__":
    main()
