"""Copy and write a rank's share of a checkpoint in a thread, with its checksums, while training goes on.

The state changes at the end of a step alone. So it is copied behind the forward and backward passes of the next step.

Megatron would fork a process for it. A thread needs no copy of the process's memory map and no CUDA context of its own,
and it ends with its rank. It holds the interpreter only between two tensors: writes and checksums release it.
"""

import os
import threading
import time
import zlib
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.filesystem_async import WriteBucket
from torch.distributed.checkpoint.filesystem import SerializationFormat, _StorageWriterTransforms, _write_item

BLOCK = 1 << 24  # bytes that are written and summed at once


class SummedFile:
    """A new file, which is summed while it is written, for `with`. It is durable at the end of a clean block.

    Attributes:
        size: bytes written so far.
        crc32: of these bytes.
    """

    def __init__(self, path: Path):
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self.size = self.crc32 = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), BLOCK):
            left = block = view[start : start + BLOCK]
            while left:  # an unbuffered file may take a part
                left = left[self._file.write(left) :]
            self.crc32 = zlib.crc32(block, self.crc32)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def __enter__(self) -> "SummedFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if error is None:
                os.fsync(self._file.fileno())


class Writing:
    """Copies a rank's part of the state and writes it, both while training goes on.

    A failure is passed to Megatron with the results: its `finalize_fns` raise it.

    Attributes:
        sums: size and CRC-32 of the files by name, once it is over.
        seconds: how long the copying and writing took, once it is over.
    """

    def __init__(self, request: AsyncRequest, copies: dict[Any, torch.Tensor]):
        """Start to copy, and then to write.

        Args:
            request: what `dist_checkpointing.save` plans for this rank.
            copies: the host's memory of the writing before, which is over; it is used again, and added to.
        """
        self.sums: dict[str, dict[str, int]] = {}
        self.seconds = 0.0
        self._copied = threading.Event()
        self._thread: threading.Thread | None = None
        if request.async_fn is None:  # this rank has nothing to write
            self._copied.set()
            return
        _, buckets, results = request.async_fn_args
        own = list(buckets)
        buckets[:] = [(path, name, ([], [])) for path, name, _ in buckets]
        copy = _Copy(copies)
        self._thread = threading.Thread(target=self._run, args=(own, copy, results), daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def wait_for_copy(self) -> None:
        """Wait until the state is copied; after that it may change."""
        self._copied.wait()

    def _run(self, buckets: list[WriteBucket], copy: "_Copy", results: Any) -> None:
        found = {}
        began = time.monotonic()
        try:
            try:
                copied = [(Path(path), name, [*raw, *copy(tensors)]) for path, name, (raw, tensors) in buckets]
                buckets.clear()  # they hold the optimizer's memory, which a new one may need
            finally:
                self._copied.set()
            for number, (path, name, items) in enumerate(copied):
                with SummedFile(path) as file:
                    found[number] = [
                        _write_item(_StorageWriterTransforms(), file, data, item, name, SerializationFormat.TORCH_SAVE)
                        for item, data in items
                    ]
                self.sums[name] = {"size": file.size, "crc32": file.crc32}
        except Exception as error:
            # After a failed write torch's writer complains of the position in the file instead.
            results.put(error.__context__ if isinstance(error.__context__, OSError) else error)
        else:
            results.put(found)
        self.seconds = time.monotonic() - began


class _Copy:
    """Copies tensors to the host's memory, as they are when this is made.

    On a GPU the copies follow the kernels that were launched before, on a stream of their own, to pinned memory.
    """

    def __init__(self, copies: dict[Any, torch.Tensor]):
        self._copies = copies
        self._stream = torch.cuda.Stream() if torch.cuda.is_available() else None
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream())

    def __call__(self, tensors: list[tuple[Any, torch.Tensor]]) -> list[tuple[Any, torch.Tensor]]:
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            copied = [(item, self._copied(item.index, tensor)) for item, tensor in tensors]
        if self._stream:
            self._stream.synchronize()
        return copied

    def _copied(self, index: Any, tensor: torch.Tensor) -> torch.Tensor:
        if self._stream and tensor.is_cpu:  # an optimizer that waits in the host's memory is never changed there
            return tensor
        if index not in self._copies:
            self._copies[index] = torch.empty_like(tensor, device="cpu", pin_memory=self._stream is not None)
        return self._copies[index].copy_(tensor, non_blocking=True)
