"""Errors that all ranks of the gather share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
