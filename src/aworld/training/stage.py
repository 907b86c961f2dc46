"""The training stage: wait for a round's trajectories, train on them, checkpoint, publish the next policy.

A resident trainer keeps model and optimizer in memory from round to round. What it needs to go on after a kill is in
the run directory: the newest complete checkpoint, or else policy 0. Round 0, the cold start, ends in policy 0 and
leaves no checkpoint: the rounds after it start from those weights with a fresh optimizer and their own learning rate.
A round that is redone gives the same policy, bit for bit, on the same parallel layout.
"""

import shutil
import time
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state

from aworld.config import Config
from aworld.errors import InfrastructureError, InputError
from aworld.rundir import RunDir, append_json, is_complete, publish_json
from aworld.training import algorithms, batching, checkpoint, conversion, cpu, model
from aworld.training.checkpoint import agreed
from aworld.training.step import Trainer
from aworld.trajectories import file
from aworld.trajectories.file import Trajectories

POLL_SECONDS = 0.2
STEPS_TO_STOP = 4
BEFORE_UPDATES = (
    "kl",
    "mismatch_mean",
    "mismatch_max",
)  # of a round's first step: the two engines differ, nothing else
MEANS = ("loss", "entropy", "grad_norm", "ratio", "clip_fraction")


def train(config: Config, run: RunDir, round_: int | None) -> None:
    """Train on one round, or on every round that the run has left. All ranks call.

    Raises:
        InputError: the sampling parameters are such that their log-probabilities cannot be trained on.
        InfrastructureError: trajectories do not come within the site's `wait_seconds`, or `round_` goes on from a
            round that was not trained.
    """
    agent = config.agent
    if agent.top_p != 1 or agent.top_k != -1:
        raise InputError(
            f"agent.top_p={agent.top_p:g}, agent.top_k={agent.top_k}: tokens cut from the distribution have no ratio "
            "to train on; set agent.top_p=1 agent.top_k=-1"
        )
    model.initialize(config.model.parallel, config.seed, 2 * config.site.wait_seconds)
    if dist.get_rank() == 0:
        _sweep(run)
    last = config.pipeline.rounds if round_ is None else round_
    trained = _trained(run, last)
    if round_ is not None and trained < round_ - 1:
        raise InfrastructureError(
            f"round {round_} goes on from round {round_ - 1}, which is not trained (no complete checkpoint in "
            f"{run.checkpoints}); train it first: aworld train {run.root} --round {round_ - 1}"
        )
    trainer = _resume(config, run, trained)
    for number in range(trained + 1, last + 1):
        _round(config, run, trainer, number)
    dist.barrier()
    dist.destroy_process_group()


def _sweep(run: RunDir) -> None:
    """Remove what a trainer that was killed left half-written; no other one is at work here."""
    for folder in (run.policy(0).parent, run.checkpoints):
        for stale in folder.glob(".*.tmp-*"):
            shutil.rmtree(stale)


def _trained(run: RunDir, last: int) -> int:
    """The last round, `last` at most, whose outcome training can go on from; -1: none."""
    newest = checkpoint.newest(run.checkpoints, last)
    return newest if newest is not None else agreed(is_complete(run.policy(0))) - 1


def _resume(config: Config, run: RunDir, trained: int) -> Trainer:
    training, dtype = config.training, config.model.dtype
    if trained < 0:
        return Trainer(training, run.base, dtype, training.cold_start.lr)
    trainer = Trainer(training, run.policy(0), dtype, training.lr)
    if trained > 0:
        checkpoint.load(trainer, run.checkpoints, trained)
        _publish(run, trainer, trained)
    return trainer


def _round(config: Config, run: RunDir, trainer: Trainer, number: int) -> None:
    """Everything from waiting for the trajectories to publishing the policy."""
    began = time.monotonic()
    trajectories = _wait(config, run, number)
    waited = time.monotonic() - began
    began = time.monotonic()
    metrics = _steps(config, run, trainer, trajectories, number)
    if dist.get_rank() == 0:  # before the checkpoint, after which the round is not done again
        seconds = {"wait": waited, "train": time.monotonic() - began}
        outcome = {"reward": float(trajectories.episodes["reward"].mean()), "seconds": seconds}
        publish_json(run.round(number) / "metrics.json", _summary(metrics) | outcome)
    if number == 0:  # policy 0 is all that is left of the cold start
        trainer.new_optimizer(config.training.lr)
    else:
        checkpoint.save(trainer, run.checkpoints, number)
    _publish(run, trainer, number)


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


def _steps(
    config: Config, run: RunDir, trainer: Trainer, trajectories: Trajectories, number: int
) -> list[dict[str, float]]:
    """All optimizer steps of a round, each noted in `steps.jsonl`."""
    training, cold = config.training, config.training.cold_start
    if number == 0:
        training = replace(training, algorithm="sft", epochs=cold.epochs, batch_size=cold.batch_size, lr=cold.lr)
    algorithm = algorithms.make(training)
    planned = [
        step
        for epoch in range(training.epochs)
        for step in batching.steps(
            trajectories,
            algorithm,
            batch_size=training.batch_size,
            micro_batch_size=training.micro_batch_size,
            max_tokens=config.agent.max_tokens,
            data_parallel=parallel_state.get_data_parallel_world_size(),
            seed=(config.seed, number, epoch),
        )
    ]
    is_first, log = dist.get_rank() == 0, run.round(number) / "steps.jsonl"
    if is_first:
        log.unlink(missing_ok=True)
    if is_first and not planned:
        print(f"round {number}: no episode has an advantage, nothing to learn; the policy stays as it is", flush=True)
    rank, device = parallel_state.get_data_parallel_rank(), cpu.device()
    temperature = config.agent.temperature if number else 1.0  # nobody sampled the expert's tokens
    metrics = []
    for at, step in enumerate(planned, 1):
        trainer.set_lr(training.lr * (min(1.0, at / max(cold.warmup_steps, 1)) if number == 0 else 1.0))
        batches = batching.micro_batches(trajectories, step, rank, device)
        metrics.append(trainer.step(batches, algorithm, temperature))
        if is_first:
            append_json(log, {"step": at, "of": len(planned), **metrics[-1]})
        if number == 0 and _enough(metrics, cold.stop_at):
            break
    return metrics


def _enough(metrics: list[dict[str, float]], stop_at: float) -> bool:
    """Whether the cold start has come so far, over the last few steps, that reinforcement learning can take over."""
    latest = metrics[-STEPS_TO_STOP:]
    return len(latest) == STEPS_TO_STOP and fmean(step["repeats"] for step in latest) >= stop_at


def _publish(run: RunDir, trainer: Trainer, number: int) -> None:
    checkpoint.together(run.policy(number), lambda out: conversion.export_hf(trainer.module, run.base, out))


def _summary(metrics: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the round's steps, each step's weighted by its tokens."""
    tokens = sum(step["tokens"] for step in metrics)
    means = {
        name: sum(step[name] * step["tokens"] for step in metrics) / tokens
        for name in MEANS
        if metrics and name in metrics[0]
    }
    first = {name: metrics[0][name] for name in BEFORE_UPDATES if metrics and name in metrics[0]}
    return {**means, **first, "steps": len(metrics), "tokens_trained": tokens}
