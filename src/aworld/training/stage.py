"""The training stage: wait for a round's trajectories, train on them, checkpoint, publish the next policy.

A resident trainer keeps model and optimizer in memory from round to round. What it needs to go on after a kill is in
the run directory: the newest complete checkpoint, or else policy 0. Round 0, the cold start, ends in policy 0; the
rounds after it start from those weights with a fresh optimizer.
"""

import time

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state as mpu

from aworld.config import Config
from aworld.errors import InfrastructureError
from aworld.rundir import RunDir, append_json, is_complete, publish_folder, publish_json
from aworld.training import checkpoint, cpu
from aworld.training.algorithms import Algorithm, make_algorithm
from aworld.training.batching import NO_LOSS, steps
from aworld.training.model import initialize
from aworld.training.step import Trainer
from aworld.trajectories import file
from aworld.trajectories.file import Trajectories

POLL_SECONDS = 0.2


def train(config: Config, run: RunDir, round_: int | None) -> None:
    """Train on one round, or on every round that has no policy yet. Every rank calls.

    Raises:
        InfrastructureError: trajectories do not come within the site's `wait_seconds`.
    """
    cpu.install()
    initialize(config.model.parallel)
    first = 0 if config.training.cold_start.tasks else 1
    rounds = range(first, config.pipeline.rounds + 1) if round_ is None else [round_]
    trainer: Trainer | None = None
    for number in rounds:
        done = is_complete(run.policy(number))
        dist.barrier()  # before rank 0 can change what the others just looked at
        if done:
            continue
        if number == 0:
            _train_round(config, run, _cold_start(config, run), 0)
            continue
        trainer = trainer or _resume(config, run)
        _train_round(config, run, trainer, number)
    dist.barrier()
    dist.destroy_process_group()


def _cold_start(config: Config, run: RunDir) -> Trainer:
    return Trainer(config.model, config.training, config.training.cold_start.lr, run.base)


def _resume(config: Config, run: RunDir) -> Trainer:
    trainer = Trainer(config.model, config.training, config.training.lr, run.policy(0))
    newest = checkpoint.newest(run.checkpoints)
    if newest is not None:
        checkpoint.load(trainer, run.checkpoints, newest)
    return trainer


def _train_round(config: Config, run: RunDir, trainer: Trainer, number: int) -> None:
    """Everything from waiting for the trajectories to publishing the policy; redone from the last mark after a kill."""
    folder = run.round(number)
    began = time.monotonic()
    trajectories = _wait(config, run, number)
    waited = time.monotonic() - began
    if number == 0 or checkpoint.newest(run.checkpoints) != number:
        began = time.monotonic()
        metrics = _steps(config, run, trainer, trajectories, number)
        if dist.get_rank() == 0:
            seconds = {"wait": waited, "train": time.monotonic() - began}
            publish_json(folder / "metrics.json", _summary(trajectories, metrics) | {"seconds": seconds})
        if number > 0:  # policy 0 is all that is left of the cold start
            checkpoint.save(trainer, run.checkpoints, number)
    _publish(trainer, run, number)


def _steps(
    config: Config, run: RunDir, trainer: Trainer, trajectories: Trajectories, number: int
) -> list[dict[str, float]]:
    """All optimizer steps of a round, each noted in `steps.jsonl`."""
    cold, training = config.training.cold_start, config.training
    algorithm: Algorithm = make_algorithm("sft" if number == 0 else training.algorithm, training)
    planned = list(
        steps(
            trajectories,
            algorithm,
            batch_size=cold.batch_size if number == 0 else training.batch_size,
            micro_batch_size=training.micro_batch_size,
            epochs=cold.epochs if number == 0 else training.epochs,
            seed=config.seed * 100_003 + number,
            data_parallel=(mpu.get_data_parallel_rank(), mpu.get_data_parallel_world_size()),
            one_shape=config.model.parallel.pipeline_model_parallel_size > 1,
        )
    )
    log = run.round(number) / "steps.jsonl"
    if dist.get_rank() == 0:
        log.unlink(missing_ok=True)
    metrics = []
    for at, micro_batches in enumerate(planned, start=1):
        warm = min(1.0, at / cold.warmup_steps) if number == 0 and cold.warmup_steps else 1.0
        metrics.append(trainer.step(micro_batches, algorithm, trainer.lr * warm))
        if dist.get_rank() == 0:
            append_json(log, {"step": at, "of": len(planned), **metrics[-1]})
    if not planned and dist.get_rank() == 0:
        print(f"round {number}: no episode has an advantage, nothing to learn; the policy stays as it is", flush=True)
    return metrics


def _publish(trainer: Trainer, run: RunDir, number: int) -> None:
    """Rank 0 writes, but every rank holds a part of the weights."""
    if dist.get_rank() == 0:
        publish_folder(run.policy(number), trainer.export)
    elif not is_complete(run.policy(number)):
        trainer.export(run.policy(number))
    dist.barrier()


def _wait(config: Config, run: RunDir, number: int) -> Trajectories:
    path = run.trajectories(number)
    give_up = time.monotonic() + config.site.wait_seconds
    while not path.exists():  # renamed into place when whole
        if time.monotonic() > give_up:
            raise InfrastructureError(
                f"{path} did not come within {config.site.wait_seconds:.0f} s; see the rollout logs in {run.logs}, "
                "then run the same command again"
            )
        time.sleep(POLL_SECONDS)
    return file.read(path)


def _summary(trajectories: Trajectories, metrics: list[dict[str, float]]) -> dict[str, object]:
    """Means over the round's steps; the mismatch between the engines is the first step's, before any update."""
    table = trajectories.episodes
    tokens = sum(m["tokens"] for m in metrics)
    means = {
        name: sum(m[name] * m["tokens"] for m in metrics) / max(tokens, 1.0)
        for name in ("loss", "entropy", "ratio", "clipped", "grad_norm")
    }
    first = metrics[0] if metrics else {}
    return {
        **means,
        "kl": first.get("kl"),
        "mismatch_mean": first.get("mismatch_mean"),
        "mismatch_max": first.get("mismatch_max"),
        "steps": len(metrics),
        "tokens_trained": tokens,
        "n_episodes": len(table),
        "n_without_loss": int(np.isin(table["status"], NO_LOSS).sum()),
        "reward": float(table["reward"].mean()) if len(table) else None,
    }
