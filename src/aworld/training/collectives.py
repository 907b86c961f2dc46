"""The ranks of the trainer: how they join, what they tell each other beside Megatron's own collectives, how they leave.

Every rank calls each of these functions, but for `is_rank_zero`.
"""

import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from aworld.errors import InfrastructureError
from aworld.policies.weights import share
from aworld.publish import Sums, begin_folder, damaged, finish_folder, is_complete, marked_files, sweep
from aworld.training import cpu

# How long a collective may take. Between two of them a rank writes its share of a checkpoint to a slow file system, or
# waits for the longest episode of a step; a rank that hangs is found after it.
COLLECTIVE_SECONDS = 1800.0
POLL_SECONDS = 0.2


def join_ranks(timeout_seconds: float) -> None:
    """Join this process to the others, over nccl where CUDA is there, else gloo. Ranks come from the environment.

    Args:
        timeout_seconds: how long a collective may take; a rank may wait so long for the slowest.
    """
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))


def leave_ranks() -> None:
    """Wait for the other ranks, then end the communication with them."""
    dist.barrier()
    dist.destroy_process_group()


def is_rank_zero() -> bool:
    return dist.get_rank() == 0


def broadcast(value: Any, source: int = 0, group: dist.ProcessGroup | None = None) -> Any:
    """The value that rank `source` of the world has; `group` holds all ranks that call, None: all."""
    box = [value]
    dist.broadcast_object_list(box, source, group)
    return box[0]


def sum_over(group: dist.ProcessGroup, tensor: torch.Tensor) -> torch.Tensor:
    """The sum of the group's tensors; computed in place, in `tensor`."""
    dist.all_reduce(tensor, dist.ReduceOp.SUM, group)
    return tensor


def max_over(group: dist.ProcessGroup, tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of the group's tensors; computed in place, in `tensor`."""
    dist.all_reduce(tensor, dist.ReduceOp.MAX, group)
    return tensor


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether it is up on any rank."""
    tensor = torch.tensor(flags, dtype=torch.int, device=cpu.device())
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return [bool(flag) for flag in tensor.tolist()]


def on_rank_zero(work: Callable[[], Any]) -> Any:
    """The result of `work`, which runs on rank 0 alone, in a thread: it may take longer than a collective may.

    Raises:
        Exception: on rank 0 the one that `work` raises; the other ranks then exit with its code, and say nothing.
    """
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work) if is_rank_zero() else None
        while broadcast(running is not None and not wait([running], POLL_SECONDS).done):
            pass
    error = running.exception() if running else None
    value = running.result() if running and not error else None
    code = getattr(error, "exit_code", InfrastructureError.exit_code) if error else 0
    value, code = broadcast((value, code))
    if error:
        raise error
    if code:
        sys.exit(code)
    return value


def on_every_rank(work: Callable[[], Any]) -> list[Any]:
    """The results of `work` on all ranks, by rank. It runs in a thread: it may take longer than a collective may.

    Raises:
        Exception: on a rank where `work` raises one; the others then exit with its code, and say nothing.
    """
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work)
        while any_rank(not wait([running], POLL_SECONDS).done)[0]:
            pass
    error = running.exception()
    outcomes: list[Any] = [None] * dist.get_world_size()
    code = getattr(error, "exit_code", InfrastructureError.exit_code) if error else 0
    dist.all_gather_object(outcomes, (code, None if error else running.result()))
    if error:
        raise error
    if failed := [code for code, _ in outcomes if code]:
        sys.exit(failed[0])
    return [result for _, result in outcomes]


def damaged_collectively(folder: Path) -> list[str]:
    """The names of files in a complete folder that changed since it was marked. Each rank reads its share of them.

    Raises:
        FileNotFoundError: a file is gone.
    """
    sizes = on_rank_zero(lambda: {name: file["size"] for name, file in marked_files(folder).items()})
    readers = share(list(sizes.values()), dist.get_world_size())
    own = [name for name, reader in zip(sizes, readers, strict=True) if reader == dist.get_rank()]
    found = on_every_rank(lambda: damaged(folder, own))
    return sorted(name for names in found for name in names)


def publish_collectively(folder: Path, write: Callable[[Path | None], Sums | None]) -> None:
    """Publish a folder that all ranks write. Does nothing where it is complete already.

    Args:
        write: called on every rank; on rank 0 with the temporary folder to be filled, elsewhere with None. On rank 0 it
            may return files that are durable and summed already.
    """
    if on_rank_zero(lambda: is_complete(folder)):
        return
    on_rank_zero(lambda: sweep(folder.parent))  # what a rank that was killed on another node left
    temporary = begin_folder(folder) if is_rank_zero() else None

    def finish() -> None:  # which reads what has no checksum yet
        assert temporary
        finish_folder(temporary, folder, known)

    try:
        known = write(temporary)
        on_rank_zero(finish)
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
