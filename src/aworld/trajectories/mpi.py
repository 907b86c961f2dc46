"""Messages between the ranks of the gather: errors that all share, and arrays larger than one message may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


@contextmanager
def raise_on_all_ranks(world: "Intracomm") -> Iterator[None]:
    """Make all ranks raise the error that one of them raises inside. All ranks enter it.

    Then they leave in order; aborting MPI would lose the output of a rank.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    for each in world.allgather(failure):
        if each is not None:
            raise each


def send_array(world: "Intracomm", array: np.ndarray, chunk: int) -> None:
    """Send an array to rank 0, in messages of `chunk` bytes."""
    data = array.view(np.uint8)
    for at in range(0, len(data), chunk):
        world.Send(data[at : at + chunk], dest=0)


def receive_array(world: "Intracomm", source: int, length: int, dtype: np.typing.DTypeLike, chunk: int) -> np.ndarray:
    """The array [length] that rank `source` sends with `send_array`."""
    array: np.ndarray = np.empty(length, dtype)
    data = array.view(np.uint8)
    for at in range(0, len(data), chunk):
        world.Recv(data[at : at + chunk], source=source)
    return array
