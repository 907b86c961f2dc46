"""Micro-batches that become empty once a rank was told to end, so that a long step is given up within the notice.

No rank can leave Megatron's schedule alone: its neighbours would wait for its tensors. So all ranks go through it to
the end, and have nothing to compute from the same micro-batch on. They agree on that one by votes. Before each
micro-batch a rank starts a maximum of one number over all ranks, and reads the result of `lag` micro-batches before.

In the 1F1B schedule (Narayanan et al., arXiv 2104.04473) the first of p pipeline stages begins micro-batch k only after
the last one has begun k − p. With a lag of more than p no stage waits for a vote.
"""

from collections import deque
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from aworld.training.batching import MicroBatches
from aworld.training.micro_batch import MicroBatch


class Abandoned(Exception):  # noqa: N818
    """A rank was told to end, and the pass was given up. All ranks raise it; no weight has changed."""


class Watched(Iterator[MicroBatch]):
    """The micro-batches of a pass. The schedule has to ask for each of them. All ranks have equally many.

    Args:
        ends_soon: whether this rank was told to end.
        group: all ranks, over gloo; nothing else uses it.
        lag: after so many micro-batches a vote is read.

    Attributes:
        was_cut: whether an empty micro-batch took the place of one.
    """

    def __init__(self, batches: MicroBatches, ends_soon: Callable[[], bool], group: dist.ProcessGroup, lag: int):
        self._batches, self._ends_soon, self._group, self._lag = batches, ends_soon, group, lag
        self._votes: deque[tuple[dist.Work, torch.Tensor]] = deque()
        self._next = 0
        self.was_cut = False

    def __next__(self) -> MicroBatch:
        if self._next == len(self._batches):
            raise StopIteration
        if len(self._votes) == self._lag and self._read():
            self.was_cut = True
        vote = torch.tensor([int(self._ends_soon())])
        work = dist.all_reduce(vote, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work
        self._votes.append((work, vote))
        self._next += 1
        return self._batches.empty() if self.was_cut else self._batches[self._next - 1]

    def close(self) -> None:
        """Read the votes that are left.

        Raises:
            Abandoned: a micro-batch was left out.
        """
        while self._votes:
            self._read()
        if self.was_cut:
            raise Abandoned

    def _read(self) -> bool:
        work, vote = self._votes.popleft()
        work.wait()
        return bool(vote.item())
