"""The training stage: wait for a round's trajectories, train on them, checkpoint, publish the next policy.

A resident trainer keeps model and optimizer in memory from round to round. What it needs to go on after a kill is in
the run directory: the newest complete checkpoint, or else policy 0. Round 0, the cold start, ends in policy 0 and
leaves no checkpoint: the rounds after it start from those weights with a fresh optimizer and their own learning rate.
A round that is redone gives the same policy, bit for bit, on the same parallel layout.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state

from aworld.config import Config, Training
from aworld.errors import InfrastructureError, InputError
from aworld.rundir import RunDir, append_json, is_complete, publish_json, read_jsonl
from aworld.training import algorithms, batching, checkpoint, conversion, cpu, model
from aworld.training.checkpoint import agreed
from aworld.training.step import Trainer
from aworld.trajectories import file
from aworld.trajectories.file import Trajectories

POLL_SECONDS = 0.2
FIRST_STEP_ONLY = ("kl", "mismatch_mean", "mismatch_max")  # before any update: the mismatch of the two engines


def train(config: Config, run: RunDir, round_: int | None) -> None:
    """Train on one round, or on every round that the run has left. All ranks call.

    Raises:
        InputError: the sampling parameters are such that their log-probabilities cannot be trained on.
        InfrastructureError: trajectories do not come within the site's `wait_seconds`, or `round_` goes on from a
            round that was not trained.
    """
    _check(config)
    model.initialize(config.model.parallel, config.seed, 2 * config.site.wait_seconds)
    last = config.pipeline.rounds if round_ is None else round_
    _sweep(run)
    rounds = list(range(agreed(_first_left(config, run)), last + 1))
    at = checkpoint.newest(run.checkpoints, last)
    if round_ is not None and (at or 0) < round_ - 1 or (round_ and rounds[:1] == [0]):
        raise InfrastructureError(
            f"round {round_} goes on from round {round_ - 1}, which has no complete checkpoint in {run.checkpoints}; "
            f"train it first: aworld train {run.root} --round {round_ - 1}"
        )
    if rounds[:1] == [0]:
        trainer = Trainer(config.training, run.base, config.model.dtype, config.training.cold_start.lr)
        _cold_start(config, run, trainer)
        trainer.new_optimizer(config.training.lr)
        rounds = rounds[1:]
    else:
        trainer = Trainer(config.training, run.policy(0), config.model.dtype, config.training.lr)
    if at:
        checkpoint.load(trainer, run.checkpoints, at)
        _publish(run, trainer, at)
    for number in range((at or 0) + 1, last + 1):
        _round(config, run, trainer, number)
    dist.barrier()
    dist.destroy_process_group()
