"""What the ranks tell each other beside Megatron's own collectives. Every rank calls each of these."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch.distributed as dist

from aworld.errors import InfrastructureError

# How long a collective may take. Between two of them a rank writes its share of a checkpoint to a slow file system, or
# waits for the longest episode of a step; a rank that hangs is found after it.
COLLECTIVE_SECONDS = 1800.0
POLL_SECONDS = 0.2


def agreed(value: Any) -> Any:
    """What rank 0 says."""
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def on_first(work: Callable[[], Any]) -> Any:
    """What `work` returns on rank 0, where alone it runs, in a thread: it may take longer than a collective may.

    Raises:
        Exception: on rank 0 what `work` raises; the other ranks then exit with its code, and say nothing.
    """
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work) if dist.get_rank() == 0 else None
        while agreed(running is not None and not wait([running], POLL_SECONDS).done):
            pass
    error = running.exception() if running else None
    value = running.result() if running and not error else None
    code = getattr(error, "exit_code", InfrastructureError.exit_code) if error else 0
    value, code = agreed((value, code))
    if error:
        raise error
    if code:
        sys.exit(code)
    return value
