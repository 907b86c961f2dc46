"""The training stage: wait for a round's trajectories, train on them, checkpoint, publish the next policy.

A resident trainer keeps model and optimizer in memory from round to round. What it needs to go on after a kill is in
the run directory: the newest sound checkpoint, or else policy 0. Round 0, the cold start, ends in policy 0; the rounds
after it start from those weights with a fresh optimizer and their own learning rate. Whatever is redone gives the same
policy, bit for bit, on the same parallel layout.
"""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import fmean

from megatron.core import parallel_state

from aworld.config import Config
from aworld.errors import InfrastructureError, InputError, Interrupted
from aworld.publish import append_json, damaged, is_complete, publish_json, sweep
from aworld.rundir import RunDir, StallTimer
from aworld.training import algorithms, batching, checkpoint, conversion, cpu, model
from aworld.training.collectives import (
    COLLECTIVE_SECONDS,
    POLL_SECONDS,
    any_rank,
    is_rank_zero,
    leave_ranks,
    on_rank_zero,
    publish_collectively,
)
from aworld.training.metrics import Metrics, summary, too_long
from aworld.training.position import Position
from aworld.training.step import Trainer
from aworld.trajectories import file
from aworld.trajectories.arrays import Trajectories

STEPS_TO_STOP = 4


def train(config: Config, run: RunDir, round_: int | None, ends_soon: Callable[[], bool] = lambda: False) -> None:
    """Train on one round, or on every round that the run has left. All ranks call.

    One round goes on from the newest checkpoint before it. Rounds between the two are trained again, on the
    trajectories that are there.

    Args:
        ends_soon: whether this rank was told to end; all ranks then save after the step in hand, and end.

    Raises:
        Interrupted: a rank was told to end; everything is saved.
        InputError: the sampling parameters are such that their log-probabilities cannot be trained on.
        InfrastructureError: trajectories do not come while nothing of the run gets on for the site's
            `wait_seconds`, or a round before `round_` has neither a checkpoint nor trajectories.
    """
    agent = config.agent
    if agent.top_p != 1 or agent.top_k != -1:
        raise InputError(
            f"agent.top_p={agent.top_p:g}, agent.top_k={agent.top_k}: tokens cut from the distribution have no ratio "
            "to train on; set agent.top_p=1 agent.top_k=-1"
        )
    model.initialize(config.model.parallel, config.seed, COLLECTIVE_SECONDS)
    for folder in (run.policy(0).parent, run.checkpoints):
        on_rank_zero(partial(sweep, folder))
    last = config.pipeline.rounds if round_ is None else round_
    at = _newest(config, run, last)
    trained = at.round - (at.step is not None)
    if round_ is not None:
        _check_earlier(run, trained + 1, round_)
    trainer, metrics = _resume(config, run, at)
    for number in range(trained + 1, last + 1):
        _Round(config, run, trainer, number, ends_soon).run(metrics)
        metrics = []
    leave_ranks()


def _newest(config: Config, run: RunDir, last: int) -> Position:
    """Where training can go on; Position(0, 0) is the very beginning."""
    at = checkpoint.newest(run.checkpoints, last) or Position(0, 0)
    if at >= Position(0) or not config.training.cold_start.tasks:
        return max(at, Position(0))
    if on_rank_zero(lambda: is_complete(run.policy(0)) and not _is_damaged(run, 0)):
        return Position(0)
    return at


def _check_earlier(run: RunDir, first: int, round_: int) -> None:
    """Raises InfrastructureError: a round from `first` on and before `round_` cannot be trained again."""
    for number in range(first, round_):
        if not run.trajectories(number).exists():
            raise InfrastructureError(
                f"round {round_} goes on from round {number}, which has neither a sound checkpoint in "
                f"{run.checkpoints} nor {run.trajectories(number)}; play it again: aworld resume {run.root}"
            )


def _is_damaged(run: RunDir, version: int) -> bool:
    """Whether a complete policy has a damaged file, which is said on stderr; such a policy is taken away."""
    wrong = damaged(run.policy(version))
    if wrong:
        print(f"warning: {run.policy(version)} is damaged ({', '.join(wrong)}); made anew", file=sys.stderr, flush=True)
        shutil.rmtree(run.policy(version))
    return bool(wrong)


def _resume(config: Config, run: RunDir, at: Position) -> tuple[Trainer, Metrics]:
    """A trainer that is where `at` says, and the metrics of the steps that the round under way has made."""
    training, dtype = config.training, config.model.dtype
    if at == Position(0, 0):
        return Trainer(training, run.base, dtype, training.cold_start.lr), []
    if at == Position(0):
        path = run.policy(0) if training.cold_start.tasks else run.base
        return Trainer(training, path, dtype, training.lr), []
    lr = training.cold_start.lr if at.round == 0 else training.lr
    trainer = Trainer(training, run.base, dtype, lr, has_weights=False)  # the checkpoint's come in their place
    metrics = checkpoint.load(trainer, run.checkpoints, at)
    if at.step is not None:
        return trainer, metrics
    on_rank_zero(lambda: is_complete(run.policy(at.round)) and _is_damaged(run, at.round))
    _publish(run, trainer, at.round)
    return trainer, []


class _Round:
    """Everything from waiting for a round's trajectories to publishing its policy."""

    def __init__(
        self, config: Config, run: RunDir, trainer: Trainer, number: int, ends_soon: Callable[[], bool]
    ) -> None:
        self.config, self.run_dir, self.trainer, self.number = config, run, trainer, number
        self.ends_soon = ends_soon
        self.saved = time.monotonic()
        self.warned = False

    def run(self, metrics: Metrics) -> None:
        """Train, from where `metrics` of the steps that were made before leave off."""
        number, run, trainer = self.number, self.run_dir, self.trainer
        began = time.monotonic()
        trajectories = self._wait()
        waited = time.monotonic() - began
        began = time.monotonic()
        metrics = self._steps(trajectories, metrics)
        if is_rank_zero():  # before the checkpoint, after which the round is not done again
            seconds = {"wait": waited, "train": time.monotonic() - began}
            outcome = summary(metrics, trajectories.episodes["reward"]) | {"seconds": seconds}
            if number == 0 and metrics:
                outcome["repeats"] = fmean(step["repeats"] for step in metrics[-STEPS_TO_STOP:])
            outcome |= batching.groups(trajectories, self.config.training.stalled_share)
            publish_json(run.round(number) / "metrics.json", outcome)
        _publish(run, trainer, number)  # before the checkpoint, as workers wait for it
        if number == 0:  # policy 0 is all that is left of the cold start
            trainer.new_optimizer(self.config.training.lr)
        else:
            checkpoint.save(trainer, run.checkpoints, Position(number), metrics)

    def _wait(self) -> Trajectories:
        path = self.run_dir.trajectories(self.number)
        seconds = self.config.site.wait_seconds
        timer = StallTimer(self.run_dir, seconds)
        while True:
            is_there, has_stalled, ends_soon = any_rank(path.exists(), timer.has_stalled(), self.ends_soon())
            if is_there:
                while not path.exists():  # this node may see it later
                    time.sleep(POLL_SECONDS)
                return file.read(path)
            if ends_soon:
                raise Interrupted(f"told to end while waiting for {path}")
            if has_stalled:
                raise InfrastructureError(
                    f"no {path} yet, and nothing got on for {seconds:.0f} s; see the rollout logs in "
                    f"{self.run_dir.logs}, then run the same command again"
                )
            time.sleep(POLL_SECONDS)

    def _steps(self, trajectories: Trajectories, metrics: Metrics) -> Metrics:
        """All optimizer steps of the round that are left, each noted in `steps.jsonl`; the metrics of all."""
        config, number, trainer = self.config, self.number, self.trainer
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
                stalled_share=training.stalled_share,
            )
        ]
        is_first, log = is_rank_zero(), self.run_dir.round(number) / "steps.jsonl"
        if is_first:
            log.unlink(missing_ok=True)
            for at, row in enumerate(metrics, 1):
                append_json(log, {"step": at, "of": len(planned), **row})
        if is_first and not planned:
            print(
                f"round {number}: no episode has an advantage, nothing to learn; the policy stays as it is", flush=True
            )
        rank, device = parallel_state.get_data_parallel_rank(), cpu.device()
        temperature = config.agent.temperature if number else 1.0  # nobody sampled the expert's tokens
        for at, step in enumerate(planned[len(metrics) :], len(metrics) + 1):
            if number == 0 and _enough(metrics, cold.stop_at):
                break
            trainer.set_lr(training.lr * (min(1.0, at / max(cold.warmup_steps, 1)) if number == 0 else 1.0))
            batches = batching.micro_batches(trajectories, step, rank, device)
            began = time.monotonic()
            metrics.append(trainer.step(batches, algorithm, temperature))
            if is_first:
                if not self.warned and (words := too_long(time.monotonic() - began, config.site)):
                    self.warned = True
                    print(f"warning: {words}", file=sys.stderr, flush=True)
                append_json(log, {"step": at, "of": len(planned), **metrics[-1]})
                loss, norm = metrics[-1]["loss"], metrics[-1]["grad_norm"]
                print(
                    f"round {number}, step {at} of {len(planned)}: loss {loss:.4f}, gradient norm {norm:.4f}",
                    flush=True,
                )
            if at < len(planned):
                self._save_in_time(metrics)
        return metrics

    def _save_in_time(self, metrics: Metrics) -> None:
        """Save where it is time to, or where a rank was told to end.

        Raises:
            Interrupted: it was; the state is saved.
        """
        is_due = is_rank_zero() and time.monotonic() - self.saved > self.config.training.save_seconds
        is_due, ends_soon = any_rank(is_due, self.ends_soon())
        if is_due or ends_soon:
            position = Position(self.number, len(metrics))
            checkpoint.save(self.trainer, self.run_dir.checkpoints, position, metrics)
            self.saved = time.monotonic()
        if ends_soon:
            raise Interrupted(f"told to end after step {len(metrics)} of round {self.number}, which is saved")


def _enough(metrics: list[dict[str, float]], stop_at: float) -> bool:
    """Whether the cold start has come so far, over the last few steps, that reinforcement learning can take over."""
    latest = metrics[-STEPS_TO_STOP:]
    return len(latest) == STEPS_TO_STOP and fmean(step["repeats"] for step in latest) >= stop_at


def _publish(run: RunDir, trainer: Trainer, number: int) -> None:
    publish_collectively(run.policy(number), lambda out: conversion.export_hf(trainer.module, run.base, out))
