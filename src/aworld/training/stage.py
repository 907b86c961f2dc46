"""The training stage: wait for a round's trajectories, train on them, checkpoint, publish the next policy.

A resident trainer keeps model and optimizer in memory from round to round. After a kill it goes on from the run
directory: from the newest sound checkpoint, or else from policy 0. Round 0, the cold start, ends in policy 0; the
rounds after it start from those weights with a fresh optimizer and their own learning rate. A round that is trained
again gives the same policy on the same parallel layout: bit for bit on a CPU, on a GPU up to the order of sums.
"""

import sys
from collections.abc import Callable
from functools import partial

from aworld.config import Config
from aworld.errors import InfrastructureError, InputError
from aworld.phase import Phase
from aworld.policies.folder import bases, broken_chain
from aworld.publish import discard, is_complete, sweep
from aworld.rundir import RunDir
from aworld.training import checkpoint, model
from aworld.training.checkpoint import Checkpoints
from aworld.training.collectives import (
    COLLECTIVE_SECONDS,
    damaged_collectively,
    is_rank_zero,
    leave_ranks,
    on_rank_zero,
)
from aworld.training.metrics import Metrics
from aworld.training.position import Position
from aworld.training.retention import prune_checkpoints
from aworld.training.round import Round, publish_policy
from aworld.training.step import Trainer


def train(config: Config, run: RunDir, round_: int | None, ends_soon: Callable[[], bool] = lambda: False) -> None:
    """Train on one round, or on every round that the run has left. All ranks call.

    One round goes on from the newest checkpoint before it. Rounds between the two are trained again, on their stored
    trajectories.

    Args:
        round_: the round to train on; None: every round from the newest checkpoint on.
        ends_soon: whether this rank was told to end; then all ranks give up the step in hand, save, and end.

    Raises:
        Interrupted: a rank was told to end; everything up to the last optimizer step is saved.
        InputError: the policy is sampled with top-p or top-k; the log-probabilities of that cannot be trained on.
        InfrastructureError: trajectories did not come while nothing of the run became durable for the site's
            `wait_seconds`; or a round before `round_` has neither a checkpoint nor trajectories.
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
    if _has_sound_policy(run, last):
        if is_rank_zero():
            print(f"{run.policy(last)} is there already", flush=True)
        leave_ranks()
        return
    at = _newest(config, run, last)
    trained = at.round - (at.step is not None)
    if round_ is not None:
        _check_earlier(run, trained + 1, round_)
    trainer, metrics = _resume(config, run, at)
    checkpoints = Checkpoints(run.checkpoints, partial(prune_checkpoints, config, run), at)
    for number in range(trained + 1, last + 1):
        Round(config, run, trainer, number, checkpoints, ends_soon).run(metrics)
        metrics = []
    checkpoints.finish()
    leave_ranks()


def _newest(config: Config, run: RunDir, last: int) -> Position:
    """The latest position that training can go on from; Position(0, 0) is the very beginning."""
    at = checkpoint.newest(run.checkpoints, last) or Position(0, 0)
    if at >= Position(0) or not config.training.cold_start.is_on:
        return max(at, Position(0))
    return Position(0) if _has_sound_policy(run, 0) else at


def _check_earlier(run: RunDir, first: int, round_: int) -> None:
    """Check that all rounds from `first` on and before `round_` can be trained again.

    Raises:
        InfrastructureError: one of them has no trajectories.
    """
    for number in range(first, round_):
        if not run.trajectories(number).exists():
            raise InfrastructureError(
                f"round {round_} goes on from round {number}, which has neither a sound checkpoint in "
                f"{run.checkpoints} nor {run.trajectories(number)}; play it again: aworld resume {run.root}"
            )


def _has_sound_policy(run: RunDir, version: int) -> bool:
    """Whether the policy is complete and sound, and so is each one that its deltas need. All ranks call.

    One that is not is removed, with a warning on stderr. A base stays, as other policies may need what is left of it.
    """
    policy = run.policy(version)
    if not on_rank_zero(lambda: is_complete(policy)):
        return False
    wrong = damaged_collectively(policy) or on_rank_zero(lambda: broken_chain(run, version))
    for base in [] if wrong else on_rank_zero(lambda: bases(run, version)):
        wrong += [f"{base:04d}/{name}" for name in damaged_collectively(run.policy(base))]
    if wrong and is_rank_zero():
        print(f"warning: {policy} is damaged ({', '.join(wrong)}); made anew", file=sys.stderr, flush=True)
        discard(policy)
    return not wrong


def _resume(config: Config, run: RunDir, at: Position) -> tuple[Trainer, Metrics]:
    """A trainer in the state of position `at`, and the metrics of the steps already made in the unfinished round."""
    training, model_ = config.training, config.model
    make = partial(Trainer, training, dtype=model_.dtype, recompute=model_.recompute, offload=model_.offload_optimizer)
    if at == Position(0, 0):
        return make(run.base, lr=training.cold_start.lr), []
    if at == Position(0):
        path = run.policy(0) if training.cold_start.is_on else run.base
        return make(path, lr=training.lr), []
    lr = training.cold_start.lr if Phase.of(at.round) is Phase.COLD_START else training.lr
    trainer = make(run.base, lr=lr, has_weights=False)  # the checkpoint has them
    metrics = checkpoint.load(trainer, run.checkpoints, at)
    if at.step is not None:
        return trainer, metrics
    _has_sound_policy(run, at.round)  # removes a damaged one, to be published anew
    publish_policy(run, trainer, at.round)
    return trainer, []
