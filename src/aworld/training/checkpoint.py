"""Distributed checkpoints of model and optimizer: complete or not there, and loadable in another parallel layout.

No state of random number generators is in them: nothing random is drawn in training (no dropout), and the order of
episodes follows from (seed, round, epoch).
"""

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state

from aworld.rundir import MARK, is_complete, publish_folder
from aworld.training.step import Trainer

KEEP = 2


def path(folder: Path, round_: int) -> Path:
    return folder / f"round-{round_:04d}"


def newest(folder: Path, up_to: int) -> int | None:
    """The latest round, `up_to` at most, with a complete checkpoint; a torn one does not count. All ranks call."""
    found = [int(p.name.removeprefix("round-")) for p in folder.glob("round-*") if is_complete(p)]
    return agreed(max((round_ for round_ in found if round_ <= up_to), default=None))


def save(trainer: Trainer, folder: Path, round_: int) -> None:
    """Write the state after a round, and remove all but the last few. All ranks call."""

    def write(temporary: Path) -> None:
        content = {name: value for name, value in _layout().items() if name != "dp_cp_group"}
        state = _state(trainer, is_loading=False)
        dist_checkpointing.save(state, str(agreed(temporary)), content_metadata=content)

    together(path(folder, round_), write)
    if dist.get_rank() == 0:
        for old in sorted(p for p in folder.glob("round-*") if is_complete(p))[:-KEEP]:
            (old / MARK).unlink()  # first, so that a removal cut short leaves a torn one
            shutil.rmtree(old)


def load(trainer: Trainer, folder: Path, round_: int) -> None:
    """Bring model and optimizer to where they were after a round. All ranks call."""
    state = dist_checkpointing.load(_state(trainer, is_loading=True), str(path(folder, round_)))
    trainer.module.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])


def together(folder: Path, write: Any) -> None:
    """`publish_folder` for a folder that all ranks write: `write` is called on each, on rank 0 with the place to write.

    Where the folder is complete already nothing is called.
    """
    if agreed(is_complete(folder)):
        return
    if dist.get_rank() == 0:
        publish_folder(folder, write)
    else:
        write(None)
    dist.barrier()


def agreed(value: Any) -> Any:
    """What rank 0 says."""
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def _layout() -> dict[str, Any]:
    """`fully_reshardable` is the optimizer layout that resumes right in any other parallel layout."""
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
