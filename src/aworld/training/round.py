"""One round of training: wait for its trajectories, make its optimizer steps, save in between, publish its policy."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NoReturn

import numpy as np
import torch.distributed as dist
from megatron.core import parallel_state

from aworld.config import Config, Training
from aworld.errors import InfrastructureError, Interrupted
from aworld.phase import Phase
from aworld.publish import append_json, publish_json
from aworld.rundir import RunDir, StallTimer
from aworld.training import algorithms, batching, cpu, export, groups, schedule
from aworld.training.algorithms import Algorithm
from aworld.training.checkpoint import Checkpoints
from aworld.training.collectives import any_rank, is_rank_zero, on_rank_zero
from aworld.training.metrics import Metrics, summary, too_long
from aworld.training.packing import Split
from aworld.training.position import Position
from aworld.training.retention import prune_copies, prune_policies
from aworld.training.step import Trainer
from aworld.training.watched import Abandoned
from aworld.trajectories import file
from aworld.trajectories.arrays import TrajectorySource

STEPS_TO_STOP = 4


class Round:
    """The training of one round, from its trajectories to its policy. All ranks call every method."""

    def __init__(
        self,
        config: Config,
        run: RunDir,
        trainer: Trainer,
        number: int,
        checkpoints: Checkpoints,
        ends_soon: Callable[[], bool],
    ) -> None:
        self.config, self.run_dir, self.trainer, self.number = config, run, trainer, number
        self.checkpoints = checkpoints
        self.is_cold_start = Phase.of(number) is Phase.COLD_START
        self.ends_soon = ends_soon
        self.saved = time.monotonic()
        self.warned = False
        self.computed = {"tokens": 0, "squares": 0}  # of the contexts in the steps that this process made

    def run(self, metrics: Metrics) -> None:
        """Train the round.

        Args:
            metrics: of the steps that were made before this process began.

        Raises:
            Interrupted: a rank was told to end; the state is saved.
            InfrastructureError: the trajectories did not come while nothing of the run became durable.
        """
        number, run, trainer = self.number, self.run_dir, self.trainer
        began = time.monotonic()
        trajectories = self._wait()
        waited = time.monotonic() - began
        began = time.monotonic()
        metrics = self._steps(self._trained(trajectories), metrics)
        if is_rank_zero():  # before the checkpoint, after which the round is not done again
            seconds = {"wait": waited, "train": time.monotonic() - began}
            outcome = summary(metrics, trajectories.episodes["reward"])
            outcome |= {"seconds": seconds, "computed": self.computed}
            if self.is_cold_start and metrics:
                outcome["repeats"] = fmean(step["repeats"] for step in metrics[-STEPS_TO_STOP:])
            outcome |= groups.count(trajectories, self.config.training.stalled_share)
            publish_json(run.round(number) / "metrics.json", outcome)
        publish_policy(run, trainer, number)  # before the checkpoint, as workers wait for it
        on_rank_zero(lambda: prune_policies(self.config, run, made=number))
        on_rank_zero(lambda: prune_copies(run))
        if self.is_cold_start:  # after the cold start only policy 0 is needed
            trainer.new_optimizer(self.config.training.lr)
        else:
            self.checkpoints.save(trainer, Position(number), metrics)

    def _wait(self) -> TrajectorySource:
        path = self.run_dir.trajectories(self.number)
        seconds, poll = self.config.site.wait_seconds, self.config.site.poll_seconds
        timer = StallTimer(self.run_dir, seconds) if is_rank_zero() else None  # one rank looks for all
        while True:
            seen = (path.exists(), timer.has_stalled()) if timer else (False, False)
            is_there, has_stalled, ends_soon, is_writing = any_rank(
                *seen, self.ends_soon(), self.checkpoints.is_writing
            )
            if not is_writing:
                self.checkpoints.finish()
            if is_there:
                while not path.exists():  # this node may see it later
                    time.sleep(poll)
                return self._open(path)
            if ends_soon or has_stalled:
                self.checkpoints.finish()
            if ends_soon:
                raise Interrupted(f"told to end while waiting for {path}")
            if has_stalled:
                raise InfrastructureError(
                    f"no {path} yet, and nothing got on for {seconds:.0f} s; see the rollout logs in "
                    f"{self.run_dir.logs}, then run the same command again"
                )
            time.sleep(poll)

    def _open(self, path: Path) -> TrajectorySource:
        """The round's trajectories. Each rank checks its share of the tokens, and on damage all ranks end together.

        Later a rank reads, and checks once more, the contexts that it trains on.

        Raises:
            InfrastructureError: on the ranks that found damage; the others exit with its code, and say nothing.
        """
        trajectories, damage = file.open_(path), None
        try:
            trajectories.verify(range(dist.get_rank(), len(trajectories.contexts), dist.get_world_size()))
        except InfrastructureError as error:
            damage = error
        (is_damaged,) = any_rank(damage is not None)
        if damage:
            raise damage
        if is_damaged:
            sys.exit(InfrastructureError.exit_code)
        return trajectories

    def _trained(self, trajectories: TrajectorySource) -> TrajectorySource:
        """The trajectories to train on: all, or those with spread where others were played in the place of the rest."""
        if self.is_cold_start or self.config.rollout.oversample == 1:
            return trajectories
        return groups.with_spread(trajectories, self.config.training.stalled_share)

    def _steps(self, trajectories: TrajectorySource, metrics: Metrics) -> Metrics:
        """Make the optimizer steps that are left, each noted in `steps.jsonl`; returns the metrics of all steps."""
        config, number, trainer = self.config, self.number, self.trainer
        training, cold = config.training, config.training.cold_start
        if self.is_cold_start:
            training = replace(
                training, algorithm="sft", options={}, epochs=cold.epochs, batch_size=cold.batch_size, lr=cold.lr
            )
        algorithm = algorithms.make(training, self.run_dir.own)
        planned = self._plan(trajectories, training, algorithm)
        writes, log = is_rank_zero(), self.run_dir.round(number) / "steps.jsonl"
        if writes:
            log.unlink(missing_ok=True)
            for at, row in enumerate(metrics, 1):
                append_json(log, {"step": at, "of": len(planned), **row})
        if writes and not planned:
            print(
                f"round {number}: no episode has an advantage, nothing to learn; the policy stays as it is", flush=True
            )
        rank, split, device = parallel_state.get_data_parallel_rank(), Split.here(), cpu.device()
        # nobody sampled the tokens of an expert or a teacher
        temperature = 1.0 if self.is_cold_start else config.agent.temperature
        left = planned[len(metrics) :]
        try:
            reference = self._reference(trajectories, left, temperature) if algorithm.needs_reference and left else None
        except Abandoned:
            self._save_and_end(metrics, "while it read the reference policy")
        for at, step in enumerate(left, len(metrics) + 1):
            if self.is_cold_start and _has_learned(metrics, cold.stop_at):
                break
            if self.is_cold_start:
                lr = schedule.cold_start_rate(cold, at)
            else:
                lr = schedule.learning_rate(training, number, at, len(planned))
            trainer.set_lr(lr)
            batches = batching.micro_batches(trajectories, step, rank, split, device, reference)
            try:
                made = trainer.step(batches, algorithm, temperature, self.ends_soon)
            except Abandoned:
                self._save_and_end(metrics, f"in step {at}, which was given up")
            metrics.append(made | {"lr": lr})
            self.computed["tokens"] += int(step.lengths.sum())
            self.computed["squares"] += int((step.lengths**2).sum())
            if writes:
                self._warn_once()
                append_json(log, {"step": at, "of": len(planned), **metrics[-1]})
                loss, norm = metrics[-1]["loss"], metrics[-1]["grad_norm"]
                print(
                    f"round {number}, step {at} of {len(planned)}: loss {loss:.4f}, gradient norm {norm:.4f}",
                    flush=True,
                )
            if at < len(planned):
                self._save_in_time(metrics)
        return metrics

    def _reference(self, trajectories: TrajectorySource, steps: list[batching.Step], temperature: float) -> np.ndarray:
        """The log-probabilities of what the steps train, by the policy that reinforcement learning began with: [N]."""
        run = self.run_dir
        path = run.policy(0) if self.config.training.cold_start.is_on else run.base
        contexts = np.unique(np.concatenate([cut for step in steps for cuts in step.contexts for cut in cuts]))
        return self.trainer.reference_logprobs(path, trajectories, temperature, contexts, self.ends_soon)

    def _plan(self, trajectories: TrajectorySource, training: Training, algorithm: Algorithm) -> list[batching.Step]:
        """All optimizer steps of the round, in order."""
        return [
            step
            for epoch in range(training.epochs)
            for step in batching.steps(
                trajectories,
                algorithm,
                batch_size=training.batch_size,
                micro_batch_tokens=training.micro_batch_tokens,
                max_tokens=self.config.agent.max_tokens,
                data_parallel=parallel_state.get_data_parallel_world_size(),
                seed=(self.config.seed, self.number, epoch),
                stalled_share=training.stalled_share,
            )
        ]

    def _warn_once(self) -> None:
        """Warn of the first checkpoint that takes longer than Slurm's notice before the time limit."""
        if not self.warned and (message := too_long(self.checkpoints.seconds, self.config.site)):
            self.warned = True
            print(f"warning: {message}", file=sys.stderr, flush=True)

    def _save_in_time(self, metrics: Metrics) -> None:
        """Save if the last save is `training.save_seconds` ago, or if a rank was told to end.

        Raises:
            Interrupted: a rank was told to end; the state is saved.
        """
        is_due = is_rank_zero() and time.monotonic() - self.saved > self.config.training.save_seconds
        is_due, ends_soon, is_writing = any_rank(is_due, self.ends_soon(), self.checkpoints.is_writing)
        if ends_soon:
            self._save_and_end(metrics, f"after step {len(metrics)}")
        if not is_writing:
            self.checkpoints.finish()
            if is_due:
                self._save(metrics)
                self.saved = time.monotonic()

    def _save(self, metrics: Metrics) -> None:
        """Begin to save the state after the last step, unless that is done."""
        position = Position(self.number, len(metrics))
        if metrics and self.checkpoints.saved != position:  # without a step it is the state after the round before
            self.checkpoints.save(self.trainer, position, metrics)

    def _save_and_end(self, metrics: Metrics, when: str) -> NoReturn:
        self._save(metrics)
        self.checkpoints.finish()
        raise Interrupted(f"told to end {when}; round {self.number} is saved up to step {len(metrics)}")


def publish_policy(run: RunDir, trainer: Trainer, number: int) -> None:
    """Publish the weights as the policy of a round, unless it is complete already. All ranks call."""
    export.publish(trainer.module, run, number, trainer.policies, trainer.training.full_policy_every)


def _has_learned(metrics: Metrics, stop_at: float) -> bool:
    """Whether `repeats`, averaged over the last steps, has reached `stop_at`: reinforcement learning can take over."""
    latest = metrics[-STEPS_TO_STOP:]
    return len(latest) == STEPS_TO_STOP and fmean(step["repeats"] for step in latest) >= stop_at
