"""Gather a round's journals into `trajectories.h5`: an MPI program, `mpiexec -n 2 python -m aworld.trajectories.gather`.

The ranks share the journals between them, and rank 0, the one writer, publishes. Gathering is idempotent on an
episode's identity, and its result depends only on which records there are.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from aworld.config import Config
from aworld.errors import AWorldError, InfrastructureError
from aworld.processes import die_with_parent
from aworld.rundir import RunDir
from aworld.trajectories import file, journal
from aworld.trajectories.episode import Episode

# What a launcher tells its ranks; an MPI started from inside one of them must not believe it is one.
LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "MPI_", "HYDRA_", "MPIR_")


def unique(episodes: Iterable[Episode]) -> list[Episode]:
    """One record per identity, ordered by it: a finished one before an infra_error, else the first in byte order."""
    best: dict[tuple[int, str, int], tuple[bool, bytes, Episode]] = {}
    for episode in episodes:
        rank = (episode.status == "infra_error", msgspec.msgpack.encode(episode), episode)
        if episode.identity not in best or rank[:2] < best[episode.identity][:2]:
            best[episode.identity] = rank
    return [best[identity][2] for identity in sorted(best)]


def gather(run: RunDir, round_: int) -> None:
    """Called by every rank of MPI's world.

    Raises:
        InfrastructureError: the world fell apart into single processes, or a journal holds another round's episodes.
    """
    from mpi4py import MPI
    from mpi4py.util import pkl5

    # pkl5 sends buffers out of band in chunks, so that a message may exceed 2 GiB.
    world = pkl5.Intracomm(MPI.COMM_WORLD)
    expected = int(os.environ.get("AWORLD_GATHER_RANKS", world.size))
    if world.size != expected:
        raise InfrastructureError(
            f"MPI formed a world of {world.size}, not of {expected}: mpi4py was built for another MPI than the launcher"
        )
    paths = sorted((run.round(round_) / "journals").glob("*.journal"))
    mine = [e for path in paths[world.rank :: world.size] for e in _of_round(path, round_)]
    parts = world.gather(msgspec.msgpack.encode(unique(mine)), root=0)
    if world.rank == 0:
        decode = msgspec.msgpack.Decoder(list[Episode]).decode
        episodes = unique(e for part in parts for e in decode(part))
        file.write(run.trajectories(round_), file.from_episodes(round_, episodes))
        print(f"gathered {len(episodes)} episodes from {len(paths)} journals with {world.size} ranks")


def _of_round(path: Path, round_: int) -> Iterable[Episode]:
    if damaged := journal.damaged_bytes(path):
        print(f"warning: {path}: {damaged} bytes are damaged; their episodes are left out", file=sys.stderr)
    for episode in journal.read(path):
        if episode.round != round_:
            raise InfrastructureError(
                f"{path} holds an episode of round {episode.round}, not {round_}; remove that file"
            )
        yield episode


def run_gather(config: Config, run: RunDir, round_: int) -> None:
    """Run the MPI program on this node, unless the round is gathered already.

    Raises:
        InfrastructureError: it failed; its own words are in the message.
    """
    if run.trajectories(round_).exists():
        return
    mpiexec = Path(sys.executable).with_name("mpiexec")
    ranks = str(config.site.gather_ranks)
    program = [sys.executable, "-m", "aworld.trajectories.gather", str(run.root), "--round", str(round_)]
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", ranks, *program]
    env = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
    env |= {"AWORLD_GATHER_RANKS": ranks, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, preexec_fn=die_with_parent, check=False)
    if done.returncode:
        raise InfrastructureError(f"gathering round {round_} failed: {' '.join(done.stderr.split()[-60:])}")
    sys.stderr.write(done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--round", type=int, required=True)
    arguments = parser.parse_args()
    try:
        gather(RunDir(arguments.run), arguments.round)
    except AWorldError as error:
        from mpi4py import MPI

        print(f"error: {error}", file=sys.stderr, flush=True)
        MPI.COMM_WORLD.Abort(error.exit_code)


if __name__ == "__main__":
    main()
