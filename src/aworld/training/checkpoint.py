"""Distributed checkpoints of model and optimizer: complete or not there, and loadable in another parallel layout."""

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core import parallel_state as mpu

from aworld.rundir import is_complete, mark_complete
from aworld.training.step import Trainer

KEEP = 2


def path(folder: Path, round_: int) -> Path:
    return folder / f"round-{round_:04d}"


def newest(folder: Path) -> int | None:
    """The latest round with a complete checkpoint; a torn one does not count."""
    rounds = [int(p.name.removeprefix("round-")) for p in folder.glob("round-*") if is_complete(p)]
    return max(rounds, default=None)


def save(trainer: Trainer, folder: Path, round_: int) -> None:
    """Write the state after a round: temporary name, rename, mark. Older ones but the last few go. All ranks call."""
    final = path(folder, round_)
    temporary = final.with_name(f".{final.name}.tmp")
    if dist.get_rank() == 0:
        for stale in (temporary, final):
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir(parents=True)
    dist.barrier()
    content = {k: v for k, v in _layout().items() if k != "dp_cp_group"}
    dist_checkpointing.save(_state(trainer, is_loading=False), str(temporary), content_metadata=content)
    dist.barrier()
    if dist.get_rank() == 0:
        temporary.rename(final)
        mark_complete(final)
        complete = sorted(p for p in folder.glob("round-*") if is_complete(p))
        for old in complete[:-KEEP]:
            shutil.rmtree(old)
    dist.barrier()


def load(trainer: Trainer, folder: Path, round_: int) -> None:
    """Bring model and optimizer to where they were after a round. All ranks call."""
    state = dist_checkpointing.load(_state(trainer, is_loading=True), str(path(folder, round_)))
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])


def _layout() -> dict[str, Any]:
    """`fully_reshardable` is the optimizer layout that resumes right in any other parallel layout."""
    return {
        "distrib_optim_sharding_type": "fully_reshardable",
        "distrib_optim_fully_reshardable_mem_efficient": False,
        "chained_optim_avoid_prefix": True,
        "singleton_local_shards": False,
        "dp_cp_group": mpu.get_data_parallel_group(with_context_parallel=True),
    }


def _state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    model = trainer.model.sharded_state_dict(metadata=_layout())
    optimizer = trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=_layout())
    return {"model": model, "optimizer": optimizer}
