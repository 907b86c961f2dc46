"""Gather a round's journals into `trajectories.h5`: an MPI program.

    mpiexec -n 2 python -m aworld.trajectories.gather RUN --round R --episodes E

The ranks share the journals between them and agree on the records to keep; rank 0, the one writer, publishes them.
Gathering is idempotent on an episode's identity, and the same journals give the same bytes.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aworld.errors import AWorldError, InfrastructureError, TaskError, disk_full
from aworld.processes import die_with_starter
from aworld.publish import publish_json, sweep
from aworld.rundir import RunDir
from aworld.trajectories import arrays, file, journal
from aworld.trajectories.arrays import Trajectories
from aworld.trajectories.episode import storable
from aworld.trajectories.file import discard_if_damaged
from aworld.trajectories.mpi import raise_on_all_ranks, receive_array, send_array
from aworld.trajectories.timing import publish_timing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

WORLD_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
CHUNK = 1 << 28  # bytes per message, well below the 2 GiB that MPI counts in an int
# Calls of tools in an episode, and how many returned errors.
TOOLS = np.dtype([("calls", "<i4"), ("errors", "<i4")])
# An episode's row of the table, the number of its journal, its place in there, and its calls of tools.
INDEX = np.dtype([("row", arrays.COLUMNS), ("journal", "<i4"), ("place", "<i4"), ("tools", TOOLS)])


def gather(run: RunDir, round_: int, episodes: int, chunk: int = CHUNK) -> None:
    """Publish the round's trajectories. Every rank of MPI's world calls it.

    Does nothing where the round is gathered already, and the file is sound.

    Args:
        episodes: how many the round has.
        chunk: bytes per message.

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
    paths = sorted((run.round(round_) / "journals").glob("*.journal"))
    with raise_on_all_ranks(world):
        mine, index = _load_share(paths, range(world.rank, len(paths), world.size), round_)

    indices = [world.bcast(index, root=rank) for rank in range(world.size)]
    everything = np.concatenate(indices)
    ranks = np.repeat(np.arange(world.size), [len(i) for i in indices])
    places_in_share = np.concatenate([np.arange(len(i)) for i in indices])
    kept = unique(everything)
    if len(kept) != episodes:
        raise TaskError(
            f"the journals of {run.round(round_)} hold {len(kept)} of its {episodes} episodes; "
            f"play what is missing: aworld resume {run.root}"
        )
    kept_of = [kept[ranks[kept] == rank] for rank in range(world.size)]
    chosen = arrays.select(mine, places_in_share[kept_of[world.rank]])
    if world.rank:
        _send_episodes(world, chosen, chunk)
        with raise_on_all_ranks(world):  # until rank 0 has published
            return
    received = [
        _receive_episodes(world, rank, round_, everything["row"][kept_of[rank]], chunk) for rank in range(1, world.size)
    ]
    order = np.argsort(np.argsort(ranks[kept], kind="stable"), kind="stable")
    result = arrays.select(arrays.join(round_, [chosen, *received]), order)
    with raise_on_all_ranks(world):
        _publish(run, result, everything["tools"][kept], began)
    print(
        f"gathered {len(result)} episodes from {len(paths)} journals with {world.size} ranks; "
        f"{len(everything) - len(result)} were there more than once"
    )


def unique(index: np.ndarray) -> np.ndarray:
    """The positions in an INDEX [M] of the records to keep, ordered by (task_id, attempt): int64 [E].

    Of several with one identity a finished one is taken before an infra_error, then the one of the first journal by
    name, then the one written first.
    """
    row = index["row"]
    failed = row["status"] == b"infra_error"
    order = np.lexsort((index["place"], index["journal"], failed, row["attempt"], row["task_id"]))
    identities = row[["task_id", "attempt"]][order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = identities[1:] != identities[:-1]
    return order[is_first]


def _check_size(world: "Intracomm") -> None:
    """Raise InfrastructureError where a launcher started several ranks and each of them is alone."""
    expected = max(int(os.environ.get(name, 1)) for name in WORLD_SIZES)
    if world.size == 1 < expected:
        raise InfrastructureError(
            f"{expected} ranks were started and each is alone: mpi4py uses another MPI than the launcher; "
            "start them with that MPI's mpiexec, or with srun --mpi=pmi2"
        )


def _load_share(paths: Sequence[Path], share: range, round_: int) -> tuple[Trajectories, np.ndarray]:
    """The episodes [E] of a rank's share of the journals, and the INDEX [E] of them."""
    loaded = [_load(paths[number], round_) for number in share]
    lengths = [len(trajectories) for trajectories, _ in loaded]
    mine = arrays.join(round_, [trajectories for trajectories, _ in loaded])
    index = np.zeros(len(mine), INDEX)
    index["row"], index["place"] = mine.episodes, [place for length in lengths for place in range(length)]
    index["journal"] = np.repeat(np.array(share, np.int32), lengths)
    index["tools"] = np.concatenate([np.zeros(0, TOOLS), *(tools for _, tools in loaded)])
    return mine, index


def _load(path: Path, round_: int) -> tuple[Trajectories, np.ndarray]:
    """The episodes [E] of a journal, and their TOOLS [E]."""
    episodes = [storable(episode) for episode in journal.read(path)]
    for episode in episodes:
        if episode.round != round_:
            raise InfrastructureError(
                f"{path} holds an episode of round {episode.round}, not {round_}; move that file away"
            )
    counts = [(len(e.tool_turns), sum(turn.is_error for turn in e.tool_turns)) for e in episodes]
    return arrays.from_episodes(round_, episodes), np.array(counts, TOOLS)


def _send_episodes(world: "Intracomm", chosen: Trajectories, chunk: int) -> None:
    """Send rank 0 all of the episodes but their table, which it has in the index."""
    lengths, counts = np.diff(chosen.offsets), np.diff(chosen.context_offsets)
    for array in (lengths, chosen.tokens, chosen.mask, chosen.logprobs, counts, chosen.contexts):
        send_array(world, array, chunk)


def _receive_episodes(world: "Intracomm", rank: int, round_: int, table: np.ndarray, chunk: int) -> Trajectories:
    """The episodes [E] that a rank sends with `_send_episodes`, under their table [E]."""
    offsets = arrays.offsets_of(receive_array(world, rank, len(table), np.int64, chunk))
    tokens, mask, logprobs = (
        receive_array(world, rank, offsets[-1], dtype, chunk) for dtype in (np.int32, np.uint8, np.float32)
    )
    counts = arrays.offsets_of(receive_array(world, rank, len(table), np.int64, chunk))
    contexts = receive_array(world, rank, counts[-1], arrays.CONTEXT, chunk)
    return Trajectories(round_, tokens, mask, logprobs, offsets, table, contexts, counts)


def _publish(run: RunDir, result: Trajectories, tools: np.ndarray, began: float) -> None:
    """Write the round's files. The trajectories come after the others: with them the round counts as gathered."""
    folder, path = run.round(result.round), run.trajectories(result.round)
    sweep(folder)
    publish_timing(folder, time.time() - began)
    publish_json(folder / "tools.json", {name: int(tools[name].sum()) for name in TOOLS.names or ()})
    if not path.exists():  # another gather may have published it meanwhile, and it has readers
        file.write(path, result)
    publish_timing(folder, time.time() - began)


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
