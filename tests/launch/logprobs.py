"""One rank of a trainer that computes the log-probabilities of what was sampled: POLICY TRAJECTORIES OUT."""

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from aworld.config import Parallel, Training
from aworld.training import model
from aworld.training.step import Trainer
from aworld.trajectories import file

if __name__ == "__main__":
    policy, trajectories, out = map(Path, sys.argv[1:])
    model.initialize(Parallel(tensor_model_parallel_size=2), 0, 300)
    found = Trainer(Training(), policy, "float32", 1e-3).logprobs(file.read(trajectories))
    if dist.get_rank() == 0:
        np.save(out, found)
    dist.destroy_process_group()
