"""Gather a round's journals into `trajectories.h5`: an MPI program.

    mpiexec -n 2 python -m aworld.trajectories.gather RUN --round R --episodes E

The ranks share the journals between them and agree on the records to keep; rank 0, the one writer, publishes them.
Gathering is idempotent on an episode's identity, and the same journals give the same bytes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aworld.config import Config
from aworld.containers import inside, staged
from aworld.errors import AWorldError, InfrastructureError, InputError, Interrupted, TaskError, disk_full
from aworld.processes import STARTER, Notice, die_with_parent, die_with_starter
from aworld.rundir import RunDir, publish_json, read_jsonl, sweep
from aworld.trajectories import file, journal
from aworld.trajectories.episode import sound
from aworld.trajectories.file import Trajectories

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

# What a launcher tells its ranks; an MPI started from inside one of them must not believe it is one.
LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_", "HYDRA_", "HYDI_")
WORLD_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
CHUNK = 1 << 28  # bytes per message, well below the 2 GiB that MPI counts in an int
TOOLS = np.dtype([("calls", "<i4"), ("errors", "<i4")])  # of an episode: calls of tools, and how many were errors
INDEX = np.dtype([("row", file.COLUMNS), ("journal", "<i4"), ("place", "<i4"), ("tools", TOOLS)])


def gather(run: RunDir, round_: int, episodes: int, chunk: int = CHUNK) -> None:
    """Called by every rank of MPI's world. Does nothing where the round is gathered already, and the file is sound.

    Args:
        episodes: how many the round has.

    Raises:
        InfrastructureError: the world fell apart into single processes, or a journal holds another round's episodes.
        TaskError: some episode is in no journal.
    """
    from mpi4py import MPI

    began = time.time()
    world = MPI.COMM_WORLD
    expected = max(int(os.environ.get(name, 1)) for name in WORLD_SIZES)
    if world.size == 1 < expected:
        raise InfrastructureError(
            f"{expected} ranks were started and each is alone: mpi4py uses another MPI than the launcher; "
            "start them with that MPI's mpiexec, or with srun --mpi=pmi2"
        )
    with _together(world):
        if world.rank == 0:
            discard_if_damaged(run, round_)
    if world.bcast(run.trajectories(round_).exists()):
        return
    paths = sorted((run.round(round_) / "journals").glob("*.journal"))
    shares = range(world.rank, len(paths), world.size)
    with _together(world):
        loaded = [_load(paths[number], round_) for number in shares]
    parts = [trajectories for trajectories, _ in loaded]
    mine = file.join(round_, parts)
    places = [place for part in parts for place in range(len(part))]
    index = np.zeros(len(mine), INDEX)
    index["row"], index["place"] = mine.episodes, places
    index["journal"] = np.repeat(np.array(shares, np.int32), [len(part) for part in parts])
    index["tools"] = np.concatenate([np.zeros(0, TOOLS), *(tools for _, tools in loaded)])

    indices = [world.bcast(index, root=rank) for rank in range(world.size)]
    everything = np.concatenate(indices)
    ranks = np.repeat(np.arange(world.size), [len(i) for i in indices])
    places_in_part = np.concatenate([np.arange(len(i)) for i in indices])
    kept = unique(everything)
    if len(kept) != episodes:
        raise TaskError(
            f"the journals of {run.round(round_)} hold {len(kept)} of its {episodes} episodes; "
            f"play what is missing: aworld resume {run.root}"
        )
    own = kept[ranks[kept] == world.rank]
    chosen = file.select(mine, places_in_part[own])
    if world.rank:
        lengths, counts = np.diff(chosen.offsets), np.diff(chosen.context_offsets)
        for array in (lengths, chosen.tokens, chosen.mask, chosen.logprobs, counts, chosen.contexts):
            _send(world, array, chunk)
        with _together(world):  # until it is published
            return
    received = [chosen]
    for rank in range(1, world.size):
        rows = everything["row"][kept[ranks[kept] == rank]]
        offsets = file.offsets_of(_receive(world, rank, len(rows), np.int64, chunk))
        tokens, mask, logprobs = (
            _receive(world, rank, offsets[-1], dtype, chunk) for dtype in (np.int32, np.uint8, np.float32)
        )
        counts = file.offsets_of(_receive(world, rank, len(rows), np.int64, chunk))
        contexts = _receive(world, rank, counts[-1], file.CONTEXT, chunk)
        received.append(Trajectories(round_, tokens, mask, logprobs, offsets, rows, contexts, counts))
    order = np.argsort(np.argsort(ranks[kept], kind="stable"), kind="stable")
    result = file.select(file.join(round_, received), order)
    with _together(world):
        sweep(run.round(round_))
        # These two first: a round that counts as gathered is left alone.
        publish_timing(run.round(round_), time.time() - began)
        tools = everything["tools"][kept]
        publish_json(run.round(round_) / "tools.json", {name: int(tools[name].sum()) for name in TOOLS.names or ()})
        if not run.trajectories(round_).exists():  # else another gathered it meanwhile, and it has readers
            file.write(run.trajectories(round_), result)
        publish_timing(run.round(round_), time.time() - began)
    print(
        f"gathered {len(result)} episodes from {len(paths)} journals with {world.size} ranks; "
        f"{len(everything) - len(result)} were there more than once"
    )


@contextmanager
def _together(world: "Intracomm") -> Iterator[None]:
    """What one rank raises in here all of them raise, and leave in order: aborting MPI loses what a rank has said."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    for each in world.allgather(failure):
        if each is not None:
            raise each


def publish_timing(folder: Path, gather_seconds: float = 0.0) -> None:
    """Sum up in `timing.json` what each worker noted in `timing.jsonl`: how long a workload took, in seconds."""
    timings = read_jsonl(folder / "timing.jsonl")
    timing = {
        "rollout_seconds": max((t["ended"] for t in timings), default=0)
        - min((t["began"] + t["load_seconds"] for t in timings), default=0),
        "load_seconds": max((t["load_seconds"] for t in timings), default=0),
        "gather_seconds": gather_seconds,
    }
    publish_json(folder / "timing.json", timing)


def unique(index: np.ndarray) -> np.ndarray:
    """Which records of an index [M] to keep, ordered by (task_id, attempt): int64 [E].

    Of several with one identity a finished one comes before an infra_error, then the one of the first journal by name,
    then the one written first.
    """
    row = index["row"]
    failed = row["status"] == b"infra_error"
    order = np.lexsort((index["place"], index["journal"], failed, row["attempt"], row["task_id"]))
    identities = row[["task_id", "attempt"]][order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = identities[1:] != identities[:-1]
    return order[is_first]


def _load(path: Path, round_: int) -> tuple[Trajectories, np.ndarray]:
    """A journal's episodes, and their TOOLS [E]."""
    episodes = [sound(episode) for episode in journal.read(path)]
    for episode in episodes:
        if episode.round != round_:
            raise InfrastructureError(
                f"{path} holds an episode of round {episode.round}, not {round_}; move that file away"
            )
    counts = [(len(e.tool_turns), sum(turn.is_error for turn in e.tool_turns)) for e in episodes]
    return file.from_episodes(round_, episodes), np.array(counts, TOOLS)


def _send(world: "Intracomm", array: np.ndarray, chunk: int) -> None:
    """Send an array to rank 0 in messages of `chunk` bytes."""
    data = array.view(np.uint8)
    for at in range(0, len(data), chunk):
        world.Send(data[at : at + chunk], dest=0)


def _receive(world: "Intracomm", source: int, length: int, dtype: np.typing.DTypeLike, chunk: int) -> np.ndarray:
    """Receive the array [length] that rank `source` sends with `_send`."""
    array: np.ndarray = np.empty(length, dtype)
    data = array.view(np.uint8)
    for at in range(0, len(data), chunk):
        world.Recv(data[at : at + chunk], source=source)
    return array


def discard_if_damaged(run: RunDir, round_: int) -> None:
    """Remove trajectories that cannot be read, so that the journals are gathered again."""
    path = run.trajectories(round_)
    try:
        if path.exists():
            file.read(path)
    except InfrastructureError as damage:
        print(f"warning: {damage}; removed", file=sys.stderr)
        path.unlink()
        shutil.rmtree(run.round(round_) / "closing", ignore_errors=True)  # else nobody would gather


def run_gather(config: Config, run: RunDir, round_: int, episodes: int) -> None:
    """Run the MPI program on this node, unless the round is gathered already.

    Raises:
        InfrastructureError, TaskError, InputError: it failed; its own words are in the message.
    """
    discard_if_damaged(run, round_)
    if run.trajectories(round_).exists():
        return
    beside = Path(sys.executable).with_name("mpiexec")
    site = config.site
    mpiexec = str(beside) if beside.exists() and (site.bind_python or not site.images.megatron) else "mpiexec"
    # in an image mpiexec is the image's too: the MPI of the two has to be one
    command = _inside(config, run, [mpiexec, "-n", str(site.gather.tasks), *_program(run, round_, episodes)])
    env = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
    env |= {"OMP_NUM_THREADS": "1", STARTER: str(os.getpid())}
    done = subprocess.run(command, env=env, capture_output=True, text=True, preexec_fn=die_with_parent, check=False)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith("error: ")] or done.stderr.splitlines()
        said = " ".join(words[-3:]).removeprefix("error: ") or f"a rank was lost (exit code {done.returncode})"
        raise _kind(done.returncode)(f"gathering round {round_}: {said}")
    sys.stderr.write(done.stderr)


def run_as_rank(config: Config, run: RunDir, round_: int, episodes: int) -> None:
    """Be one rank of the MPI program, as every task of a Slurm job's step is; the launcher is srun.

    Raises:
        Interrupted: the job was told to end.
        InfrastructureError, TaskError, InputError: it failed; its own words are in the task's log.
    """
    notice = Notice()
    command = _inside(config, run, _program(run, round_, episodes))
    env = os.environ | {"OMP_NUM_THREADS": "1", STARTER: str(os.getpid())}
    # close_fds: MPI talks to srun through a file it inherits
    code = subprocess.run(command, env=env, close_fds=False, preexec_fn=die_with_parent, check=False).returncode
    if code and notice.now:
        raise Interrupted(f"told to end while gathering round {round_}")
    if code:
        raise _kind(code)(f"gathering round {round_} ended with exit code {code}; its reason is above")


def _program(run: RunDir, round_: int, episodes: int) -> list[str]:
    words = [str(run.root), "--round", str(round_), "--episodes", str(episodes)]
    return [sys.executable, "-m", "aworld.trajectories.gather", *words]


def _inside(config: Config, run: RunDir, command: list[str]) -> list[str]:
    return inside(config.site, staged(config.site.images.megatron, config.site.scratch), command, [run.root])


def _kind(code: int) -> type[AWorldError]:
    return {kind.exit_code: kind for kind in (InputError, TaskError)}.get(code, InfrastructureError)


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
        if known:  # by every rank
            sys.exit(error.exit_code if isinstance(error, AWorldError) else 1)
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)  # a rank that just left would let the others wait for ever


if __name__ == "__main__":
    main()
