"""One rank of a trainer that publishes policies, some as deltas; beside each its weights as mbridge exports them."""

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state
from safetensors.torch import save_file
from transformers import AutoConfig

from aworld.config import Parallel, Training
from aworld.policies.writing import Writer
from aworld.rundir import RunDir
from aworld.training import algorithms, batching, cpu, export, model
from aworld.training.conversion import Bridge
from aworld.training.packing import Split
from aworld.training.step import Trainer
from aworld.trajectories.arrays import COLUMNS, Trajectories, offsets_of

TRAINING = Training(lr=1e-5, batch_size=4, full_policy_every=3)


def main(root: Path, versions: int) -> None:
    run = RunDir(root)
    model.initialize(Parallel(2, 2, 1), 0, 300)
    export.SHARE_BYTES = 1 << 16  # so that every rank writes
    trainer = Trainer(TRAINING, run.base, "bfloat16", TRAINING.lr)
    for version in range(1, versions + 1):
        if version == versions:  # as a process that goes on at the end of a round
            trainer.policies = Writer(keeps=True)
            export.publish(trainer.module, run, version - 1, trainer.policies, TRAINING.full_policy_every)
        step(trainer)
        export.publish(trainer.module, run, version, trainer.policies, TRAINING.full_policy_every)
        bridge = Bridge(AutoConfig.from_pretrained(run.base), trainer.module.config)
        whole = {name: tensor.clone() for name, tensor in bridge.export_weights([trainer.module])}
        if dist.get_rank() == 0:
            save_file(whole, root / f"{version}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


def step(trainer: Trainer) -> None:
    """An optimizer step on four attempts at one task, two of them right."""
    rows = np.zeros(4, COLUMNS)
    rows["task_id"], rows["attempt"], rows["reward"], rows["status"] = b"a", range(4), [1, 0, 0, 1], b"answered"
    mask = np.tile(np.repeat(np.array([0, 1], np.uint8), 12), 4)
    tokens = np.random.default_rng(0).integers(0, 256, 96).astype(np.int32)
    played = Trajectories(1, tokens, mask, -5 * mask.astype(np.float32), offsets_of(np.full(4, 24)), rows)
    algorithm = algorithms.make(TRAINING)
    (planned,) = batching.steps(
        played, algorithm, batch_size=4, micro_batch_tokens=128, max_tokens=100, data_parallel=1, seed=(0,)
    )
    rank, split = parallel_state.get_data_parallel_rank(), Split.here()
    trainer.step(batching.micro_batches(played, planned, rank, split, cpu.device(), None), algorithm)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
