"""Write a rank's share of a checkpoint in a thread, with its checksums, while training goes on.

Megatron would fork a process for it. A thread needs no copy of the process's memory map and no CUDA context of its own,
and it ends with its rank. It holds the interpreter only between two tensors: writes and checksums release it.
"""

import os
import threading
import time
import zlib
from collections.abc import Iterable
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
    """Writes a rank's files of a checkpoint. Its tensors are copies, so training may go on.

    A failure is passed to Megatron with the results: its `finalize_fns` raise it.

    Attributes:
        sums: size and CRC-32 of the files by name, once it is over.
        seconds: how long the writing took, once it is over.
    """

    def __init__(self, request: AsyncRequest, live: Iterable[torch.Tensor]):
        """Copy what has to be copied, and start to write.

        Args:
            request: what `dist_checkpointing.save` plans for this rank.
            live: tensors that training goes on to change; parts of them are copied to the host's memory here.
        """
        self.sums: dict[str, dict[str, int]] = {}
        self.seconds = 0.0
        self._thread: threading.Thread | None = None
        if request.async_fn is None:  # this rank has nothing to write
            return
        _, buckets, results = request.async_fn_args
        storages = {tensor.untyped_storage().data_ptr() for tensor in live}
        copies = [(Path(path), name, (raw, _copied(tensors, storages))) for path, name, (raw, tensors) in buckets]
        buckets[:] = [(path, name, ([], [])) for path, name, _ in buckets]  # their memory is free once it is written
        self._thread = threading.Thread(target=self._run, args=(copies, results), daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def _run(self, buckets: list[WriteBucket], results: Any) -> None:
        found = {}
        began = time.monotonic()
        try:
            for number, (path, name, (raw, tensors)) in enumerate(buckets):
                with SummedFile(path) as file:
                    found[number] = [
                        _write_item(_StorageWriterTransforms(), file, data, item, name, SerializationFormat.TORCH_SAVE)
                        for item, data in (*raw, *tensors)
                    ]
                self.sums[name] = {"size": file.size, "crc32": file.crc32}
        except Exception as error:
            # After a failed write torch's writer complains of the position in the file instead.
            results.put(error.__context__ if isinstance(error.__context__, OSError) else error)
        else:
            results.put(found)
        self.seconds = time.monotonic() - began


def _copied(tensors: list[tuple[Any, torch.Tensor]], live: set[int]) -> list[tuple[Any, torch.Tensor]]:
    """The tensors in the host's memory; those on a device, or whose storage is `live`, are copied."""

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        is_live = not tensor.is_cpu or tensor.untyped_storage().data_ptr() in live
        return tensor.to("cpu", copy=True) if is_live else tensor

    return [(item, copied(tensor)) for item, tensor in tensors]
