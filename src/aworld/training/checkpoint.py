"""Distributed checkpoints of model and optimizer, which can be loaded in another parallel layout.

One is written after each round, and within a round every `training.save_seconds`. They hold no state of random number
generators: training draws nothing random (no dropout), and the order of episodes follows from (seed, round, epoch).
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.strategies import filesystem_async
from torch.distributed.checkpoint.api import CheckpointException

from aworld.errors import InfrastructureError, disk_full
from aworld.publish import MARK, append_json, damaged, read_jsonl
from aworld.training.collectives import broadcast, on_rank_zero, publish_collectively
from aworld.training.position import Position, positions, prune
from aworld.training.step import Trainer

METRICS = "metrics.jsonl"


def newest(folder: Path, up_to: int) -> Position | None:
    """The position of the latest sound checkpoint of round `up_to` or before; None: there is none. All ranks call.

    A torn one is passed over. So is a damaged one, with a warning on stderr; it loses its mark, and is written anew
    when training comes there again.
    """

    def find() -> Position | None:
        for position in reversed([p for p in positions(folder) if p.round <= up_to]):
            wrong = damaged(folder / position.name)
            if not wrong:
                return position
            (folder / position.name / MARK).unlink()
            names = ", ".join(wrong)
            print(
                f"warning: {folder / position.name} is damaged ({names}) and passed over", file=sys.stderr, flush=True
            )
        return None

    return on_rank_zero(find)


def save(trainer: Trainer, folder: Path, position: Position, metrics: list[dict[str, float]]) -> None:
    """Write a checkpoint, with the metrics of the round's steps so far, and remove old ones. All ranks call.

    Raises:
        InfrastructureError: the checkpoint could not be written.
    """

    def write(temporary: Path | None) -> None:
        # Megatron would spawn a process that passes the writers' results on. It would import torch; and TERM, which
        # Slurm sends to all processes at a preemption, would end it and the save. Only this process asks for results.
        filesystem_async._results_queue = SimpleQueue()
        content = {name: value for name, value in _layout().items() if name != "dp_cp_group"}
        with trainer.optimizer_here():
            state = _state(trainer, is_loading=False)
            dist_checkpointing.save(state, str(broadcast(temporary)), content_metadata=content)
        if temporary:
            for row in metrics:
                append_json(temporary / METRICS, row)

    place = folder / position.name
    try:
        with _writers_live():
            publish_collectively(place, write)
    except (Exception, CheckpointException) as error:  # Megatron reports a failed write in many ways
        if isinstance(error, CheckpointException) and not error.failures:
            reason = "another rank says why"
        else:
            reason = disk_full(error) or (str(error).strip() or repr(error)).splitlines()[-1]
        raise InfrastructureError(f"{place} could not be written: {reason}") from error
    on_rank_zero(lambda: prune(folder, position))


def load(trainer: Trainer, folder: Path, position: Position) -> list[dict[str, float]]:
    """Load model and optimizer from a checkpoint; returns the metrics of its round's steps. All ranks call."""
    place = folder / position.name
    with trainer.optimizer_here():
        state = dist_checkpointing.load(_state(trainer, is_loading=True), str(place))
        trainer.module.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    return broadcast(read_jsonl(place / METRICS))


@contextmanager
def _writers_live() -> Iterator[None]:
    """End this rank if a process that writes for it is killed, such as on a node out of memory.

    Megatron forks a process to write each shard, and would wait for ever for the result of a killed one.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            killed = [child.pid for child in psutil.Process().children() if _exit_code(child.pid)]
            if killed and not over.is_set():
                print(
                    f"error: a process that writes the checkpoint was killed: {killed[0]}", file=sys.stderr, flush=True
                )
                os._exit(InfrastructureError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _exit_code(pid: int) -> int:
    """The exit code of a child that has ended and was not waited for; 0 while it lives."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[48]) if state == "Z" else 0  # the 52nd of proc(5)
    return 0


def _layout() -> dict[str, Any]:
    """How Megatron lays out a checkpoint. `fully_reshardable` resumes exactly in any other parallel layout."""
    return {
        "distrib_optim_sharding_type": "fully_reshardable",
        "distrib_optim_fully_reshardable_mem_efficient": False,
        "chained_optim_avoid_prefix": True,
        "singleton_local_shards": False,
        "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
    }


def _state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    model = trainer.module.sharded_state_dict(metadata=_layout())
    optimizer = trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=_layout())
    return {"model": model, "optimizer": optimizer}
