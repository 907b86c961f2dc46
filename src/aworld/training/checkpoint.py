"""Distributed checkpoints of model and optimizer, which can be loaded in another parallel layout.

One is written after each round, and within a round every `training.save_seconds`. Each rank saves its own part of the
optimizer's state, behind the training: the next optimizer step waits until it is copied to the host's memory, and a
later step marks the checkpoint complete. They hold no state of random number generators: training draws nothing random
(no dropout), and the order of episodes follows from (seed, round, epoch).
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.serialization import get_default_save_sharded_strategy
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from torch.distributed.checkpoint.api import CheckpointException

from aworld.errors import InfrastructureError, disk_full
from aworld.publish import MARK, append_json, begin_folder, finish_folder, is_complete, read_jsonl, sweep
from aworld.training.background import Writing
from aworld.training.collectives import (
    POLL_SECONDS,
    any_rank,
    broadcast,
    damaged_collectively,
    is_rank_zero,
    on_rank_zero,
)
from aworld.training.optimizer import parts
from aworld.training.optimizer_state import pieces_of
from aworld.training.position import Position, positions
from aworld.training.step import Trainer

METRICS = "metrics.jsonl"


def newest(folder: Path, up_to: int) -> Position | None:
    """The position of the latest sound checkpoint of round `up_to` or before; None: there is none. All ranks call.

    A torn one is passed over. So is a damaged one, with a warning on stderr; it loses its mark, and is written anew
    when training comes there again. Each rank reads its share of the files.
    """
    for position in reversed(on_rank_zero(lambda: [p for p in positions(folder) if p.round <= up_to])):
        wrong = damaged_collectively(folder / position.name)
        if not wrong:
            return position
        if is_rank_zero():
            (folder / position.name / MARK).unlink()
            names = ", ".join(wrong)
            print(
                f"warning: {folder / position.name} is damaged ({names}) and passed over", file=sys.stderr, flush=True
            )
    return None


@dataclass
class _Save:
    """A checkpoint that is being written."""

    position: Position
    temporary: Path
    request: AsyncRequest
    writing: Writing


class Checkpoints:
    """The saves of a training, at most one of them under way. All ranks call every method.

    Args:
        prune: called on rank 0 with the position of each checkpoint once it is complete.
        saved: the position that is saved at the beginning.

    Attributes:
        saved: the latest position whose save was begun.
        seconds: how long this rank wrote its share of the last one.
    """

    def __init__(self, folder: Path, prune: Callable[[Position], None], saved: Position | None = None):
        self.folder, self.saved, self.seconds = folder, saved, 0.0
        self._prune = prune
        self._save: _Save | None = None
        self._copies: dict[Any, torch.Tensor] = {}  # this rank's part of the state, as it was saved last
        self._strategy = get_default_save_sharded_strategy()
        self._strategy.thread_count = 1
        self._strategy.use_cached_ckpt_structure = True  # the ranks plan twice, and then know that nothing changes

    def save(self, trainer: Trainer, position: Position, metrics: list[dict[str, float]]) -> None:
        """Begin to write a checkpoint, with the metrics of the round's steps so far; wait for the one before it.

        Does nothing where it is complete already.

        Raises:
            InfrastructureError: the one before could not be written, or this one not be begun.
        """
        self.finish()
        self.saved = position
        place = self.folder / position.name
        if on_rank_zero(lambda: is_complete(place)):
            return
        on_rank_zero(lambda: sweep(self.folder))  # what a rank that was killed on another node left
        temporary = broadcast(begin_folder(place) if is_rank_zero() else None)
        with _reported(place, temporary):
            request = self._plan(trainer, temporary)
            if is_rank_zero():
                for row in metrics:
                    append_json(temporary / METRICS, row)
            writing = Writing(request, self._copies)
            trainer.settle = writing.wait_for_copy
            self._save = _Save(position, temporary, request, writing)

    @property
    def is_writing(self) -> bool:
        """Whether this rank still writes; the others may be done, or not."""
        return self._save is not None and not self._save.writing.is_over

    def finish(self) -> None:
        """Wait until the save under way is written, and mark it complete; then old checkpoints are removed.

        Raises:
            InfrastructureError: it could not be written.
        """
        if self._save is None:
            return
        save, self._save = self._save, None
        while any_rank(not save.writing.is_over)[0]:
            time.sleep(POLL_SECONDS)
        self.seconds = save.writing.seconds
        place = self.folder / save.position.name
        with _reported(place, save.temporary):
            for finalize in save.request.finalize_fns:
                finalize()
            sums: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(sums, save.writing.sums)
            known = {name: of for rank in sums for name, of in rank.items()}
            on_rank_zero(lambda: finish_folder(save.temporary, place, known))
        on_rank_zero(lambda: self._prune(save.position))

    def _plan(self, trainer: Trainer, temporary: Path) -> AsyncRequest:
        """Plan the files of each rank. Their tensors are the optimizer's own."""
        # Megatron would spawn a process that passes the writers' results on. Only this process asks for them.
        filesystem_async._results_queue = SimpleQueue()
        return dist_checkpointing.save(
            _state(trainer),
            str(temporary),
            self._strategy,
            validate_access_integrity=False,  # PyTorch's plan checks that the pieces of all ranks cover each tensor
            async_sharded_save=True,
            content_metadata=_LAYOUT,
        )


def load(trainer: Trainer, folder: Path, position: Position) -> list[dict[str, float]]:
    """Load model and optimizer from a checkpoint; returns the metrics of its round's steps. All ranks call.

    Each rank reads its own part of the optimizer's state. The weights follow from it, as after a step.
    """
    place = folder / position.name
    with trainer.optimizer_here():
        state = dist_checkpointing.load(_state(trainer), str(place), validate_access_integrity=False)
        trainer.optimizer.load_state_dict({"optimizer": state["optimizer"]["optimizer"]})
        for part in parts(trainer.optimizer):
            part._copy_main_params_to_model_params()
    trainer.model.start_param_sync(force_sync=True)
    return broadcast(read_jsonl(place / METRICS))


@contextmanager
def _reported(place: Path, temporary: Path) -> Iterator[None]:
    """Turn a failure to write a checkpoint into one line, and remove its temporary folder."""
    try:
        yield
    except (Exception, CheckpointException) as error:  # Megatron reports a failed write in many ways
        if is_rank_zero():
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, CheckpointException) and not error.failures:
            reason = "another rank says why"
        else:
            reason = disk_full(error) or (str(error).strip() or repr(error)).splitlines()[-1]
        raise InfrastructureError(f"{place} could not be written: {reason}") from error


# How Megatron names and shapes what is saved.
_LAYOUT = {
    "distrib_optim_sharding_type": "fully_reshardable",
    "chained_optim_avoid_prefix": True,
    "singleton_local_shards": False,
}


def _state(trainer: Trainer) -> dict[str, Any]:
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    model = trainer.module.sharded_state_dict(metadata=_LAYOUT | {"dp_cp_group": group})
    pieces = pieces_of(trainer.optimizer, model)
    return {"optimizer": trainer.optimizer.state_dict(), "pieces": pieces}
