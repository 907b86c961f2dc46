"""Gather a round's journals into `trajectories.h5`: an MPI program.

    mpiexec -n 2 python -m aworld.trajectories.gather RUN --round R --episodes E

Each rank lists its share of the journals, and all agree on the records to keep and on their order in the file. Then
tokens are read in pieces of about `CHUNK` bytes, each once, by the ranks in turn. Rank 0, the one writer, receives the
pieces in order and holds one at a time. Gathering is idempotent on an episode's identity, and the same journals give
the same bytes, however many ranks there are.
"""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aworld.errors import AWorldError, InfrastructureError, TaskError, disk_full
from aworld.processes import die_with_starter
from aworld.publish import publish_json, sweep
from aworld.rundir import RunDir
from aworld.trajectories import arrays, file, journal
from aworld.trajectories.file import discard_if_damaged
from aworld.trajectories.frames import Entry
from aworld.trajectories.mpi import raise_on_all_ranks
from aworld.trajectories.pieces import Damaged, cut, send_share, write_all
from aworld.trajectories.record import Record
from aworld.trajectories.timing import publish_timing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

WORLD_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
CHUNK = 1 << 24  # bytes per piece


class _Published(Exception):  # noqa: N818
    """Another gather has published the round meanwhile, and it has readers."""


def gather(run: RunDir, round_: int, episodes: int, chunk: int = CHUNK) -> None:
    """Publish the round's trajectories. Every rank of MPI's world calls it.

    Does nothing where the round is gathered already, and the file is sound.

    Args:
        episodes: how many the round has.
        chunk: bytes per piece, unless a single episode has more.

    Raises:
        InfrastructureError: the world fell apart into single processes, or a journal holds another round's episodes.
        TaskError: some episode is in no journal.
    """
    from mpi4py import MPI

    began = time.time()
    world = MPI.COMM_WORLD
    _check_size(world)
    with raise_on_all_ranks(world):
        if world.rank == 0:
            discard_if_damaged(run, round_)
    if world.bcast(run.trajectories(round_).exists()):
        return
    paths = world.bcast(sorted((run.round(round_) / "journals").glob("*.journal")))
    while True:
        with raise_on_all_ranks(world):
            own = _list_share(paths[world.rank :: world.size], round_)
        listed = [entry for share in world.allgather(own) for entry in share]
        kept = [candidates[0] for candidates in journal.by_identity(listed)]
        if len(kept) != episodes:
            raise TaskError(
                f"the journals of {run.round(round_)} hold {len(kept)} of its {episodes} episodes; "
                f"play what is missing: aworld resume {run.root}"
            )
        try:
            _publish(world, run, round_, kept, chunk, began)
        except Damaged:
            continue
        except _Published:
            return
        if world.rank == 0:
            print(
                f"gathered {len(kept)} episodes from {len(paths)} journals with {world.size} ranks; "
                f"{len(listed) - len(kept)} were there more than once"
            )
        return


def _check_size(world: "Intracomm") -> None:
    """Raise InfrastructureError where a launcher started several ranks and each of them is alone."""
    expected = max(int(os.environ.get(name, 1)) for name in WORLD_SIZES)
    if world.size == 1 < expected:
        raise InfrastructureError(
            f"{expected} ranks were started and each is alone: mpi4py uses another MPI than the launcher; "
            "start them with that MPI's mpiexec, or with srun --mpi=pmi2"
        )


def _list_share(paths: list[Path], round_: int) -> list[Entry]:
    entries = []
    for path in paths:
        for entry in journal.listed(path):
            if entry.record.round != round_:
                raise InfrastructureError(
                    f"{path} holds an episode of round {entry.record.round}, not {round_}; move that file away"
                )
            entries.append(entry)
    return entries


def _publish(world: "Intracomm", run: RunDir, round_: int, kept: list[Entry], chunk: int, began: float) -> None:
    """Write the round's files. The trajectories come after the others: with them the round counts as gathered.

    Raises:
        Damaged, _Published: the file is not written.
    """
    pieces, path = cut(kept, chunk), run.trajectories(round_)
    with ExitStack() as stack:
        with raise_on_all_ranks(world):
            if world.rank == 0:
                found = [entry.record for entry in kept]
                sweep(run.round(round_))
                publish_timing(run.round(round_), time.time() - began)
                publish_json(run.round(round_) / "tools.json", _calls(found))
                put = stack.enter_context(file.writing(path, round_, arrays.tables(found)))
        with raise_on_all_ranks(world):
            if world.rank:
                send_share(world, pieces)
            else:
                write_all(world, pieces, put)
        with raise_on_all_ranks(world):
            if world.rank == 0:
                if path.exists():
                    raise _Published
                stack.close()
                publish_timing(run.round(round_), time.time() - began)


def _calls(records: list[Record]) -> dict[str, int]:
    """How many tool calls there were, and how many of them returned errors."""
    counts = [count for record in records for count in record.tools.values()]
    return {"calls": sum(calls for calls, _ in counts), "errors": sum(errors for _, errors in counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--round", type=int, required=True)
    parser.add_argument("--episodes", type=int, required=True, help="how many it has")
    arguments = parser.parse_args()
    die_with_starter()
    try:
        gather(RunDir(arguments.run), arguments.round, arguments.episodes)
    except BaseException as error:
        import traceback

        from mpi4py import MPI

        known = str(error) if isinstance(error, AWorldError) else disk_full(error)
        if known and MPI.COMM_WORLD.rank == 0:
            print(f"error: {known}", file=sys.stderr, flush=True)
        if known:  # every rank knows it, and ends
            sys.exit(error.exit_code if isinstance(error, AWorldError) else 1)
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)  # a rank that only exited would let the others wait for ever


if __name__ == "__main__":
    main()
