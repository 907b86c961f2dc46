"""The tokens of a round in pieces, on their way from the journals to the writer of the file.

A reader reads a record straight to its place in a piece, while its last piece is still on its way. The writer holds one
piece at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aworld.trajectories import journal
from aworld.trajectories.file import Put
from aworld.trajectories.frames import TOKEN_BYTES, Arrays, Entry, read_into

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Damaged(Exception):  # noqa: N818
    """A record was struck out; the list of records to keep is another one now."""


@dataclass(frozen=True)
class Piece:
    """Neighbours in the file, read and sent together.

    Attributes:
        at: the place of their first token.
        tokens: how many they have.
    """

    at: int
    tokens: int
    entries: list[Entry]


def cut(entries: list[Entry], chunk: int) -> list[Piece]:
    """Pieces of at most `chunk` bytes, or of one episode, with all entries in their order."""
    pieces: list[Piece] = []
    own: list[Entry] = []
    at = tokens = 0
    for entry in entries:
        if own and TOKEN_BYTES * (tokens + entry.record.tokens) > chunk:
            pieces.append(Piece(at, tokens, own))
            at, tokens, own = at + tokens, 0, []
        own.append(entry)
        tokens += entry.record.tokens
    return [*pieces, Piece(at, tokens, own)] if own else pieces


def send_share(world: "Intracomm", pieces: list[Piece]) -> None:
    """Read this rank's pieces and send them to rank 0. After a failure it sends anything: rank 0 waits for it.

    Raises:
        Damaged: as `write_all`.
    """
    from mpi4py import MPI

    buffers, sent, failure = [_buffer(pieces) for _ in range(2)], MPI.REQUEST_NULL, None
    own = [piece for number, piece in enumerate(pieces) if _reader(world, number) == world.rank]
    for number, piece in enumerate(own):
        buffer = buffers[number % 2]
        try:
            if failure is None:
                _read(piece, buffer)
        except Exception as error:
            failure = error
        sent.Wait()  # the other buffer is free for the next piece
        sent = world.Isend(buffer[: TOKEN_BYTES * piece.tokens], dest=0)
    sent.Wait()
    if failure:
        raise failure


def write_all(world: "Intracomm", pieces: list[Piece], put: Put) -> None:
    """Write all pieces in order, those of the other ranks as they arrive.

    Raises:
        Damaged: a record is damaged, and was struck out.
    """
    buffer = _buffer(pieces)
    arriving = _receive_all(world, pieces, buffer)
    try:
        for piece in arriving:
            put(piece.at, _views(buffer, piece.tokens))
    finally:
        for _ in arriving:  # after a failure: the other ranks wait until theirs are received
            pass


def _receive_all(world: "Intracomm", pieces: list[Piece], buffer: np.ndarray) -> Iterator[Piece]:
    """Each piece in turn, as soon as it is in the buffer."""
    for number, piece in enumerate(pieces):
        if reader := _reader(world, number):
            world.Recv(buffer[: TOKEN_BYTES * piece.tokens], source=reader)
        else:
            _read(piece, buffer)
        yield piece


def _reader(world: "Intracomm", number: int) -> int:
    """The rank that reads this piece: each in turn, but the writer only where it is alone."""
    return 1 + number % (world.size - 1) if world.size > 1 else 0


def _buffer(pieces: list[Piece]) -> np.ndarray:
    """Room for the largest piece, uint8."""
    return np.empty(TOKEN_BYTES * max((piece.tokens for piece in pieces), default=0), np.uint8)


def _read(piece: Piece, buffer: np.ndarray) -> None:
    """Read a piece into the buffer.

    Raises:
        Damaged: a record of it is damaged, and was struck out.
    """
    (tokens, mask, logprobs), at = _views(buffer, piece.tokens), 0
    for entry in piece.entries:
        own = slice(at, at + entry.record.tokens)
        if not read_into(entry, (tokens[own], mask[own], logprobs[own])):
            journal.strike_out(entry)
            raise Damaged
        at = own.stop


def _views(buffer: np.ndarray, tokens: int) -> Arrays:
    """The token ids, mask and log-probabilities of a piece in the buffer, each aligned; returned as Arrays."""
    return (
        buffer[: 4 * tokens].view("<i4"),
        buffer[8 * tokens : 9 * tokens],
        buffer[4 * tokens : 8 * tokens].view("<f4"),
    )
