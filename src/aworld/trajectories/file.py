"""`trajectories.h5`: what training reads. Flat ragged arrays, one table of episodes, checksums.

The layout is documented in docs/trajectory-file-format.md; any HDF5 reader opens it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from aworld.errors import InfrastructureError
from aworld.rundir import publishing
from aworld.trajectories.episode import Episode

FORMAT_VERSION = 1
PHASES = ("wait", "generate", "tools", "total")
COLUMNS = np.dtype(
    [
        ("task_id", "S128"),
        ("attempt", "<i4"),
        ("level", "<i4"),
        ("reward", "<f4"),
        ("status", "S16"),
        ("policy_version", "<i4"),
        ("seed", "<i8"),
        ("turns", "<i4"),
        *((f"seconds_{phase}", "<f4") for phase in PHASES),
    ]
)
ARRAYS = ("tokens", "mask", "logprobs", "offsets", "episodes")


@dataclass(frozen=True)
class Trajectories:
    """The episodes of one round, ordered by (task_id, attempt).

    Attributes:
        round: the round they were played in.
        tokens: int32 [N], the token ids of all episodes end to end.
        mask: uint8 [N], 1 where the policy sampled the token.
        logprobs: float32 [N], nats, 0 where mask is 0.
        offsets: int64 [E + 1]; episode e is tokens[offsets[e] : offsets[e + 1]].
        episodes: structured [E], the columns of COLUMNS. Episodes of one task_id are a group.
    """

    round: int
    tokens: np.ndarray
    mask: np.ndarray
    logprobs: np.ndarray
    offsets: np.ndarray
    episodes: np.ndarray

    def __len__(self) -> int:
        return len(self.episodes)


def from_episodes(round_: int, episodes: Sequence[Episode]) -> Trajectories:
    """Flatten episodes, in the order given.

    Raises:
        InfrastructureError: an episode's token_ids, mask and logprobs differ in length, or its task_id is too long.
    """
    for e in episodes:
        if not len(e.token_ids) == len(e.mask) == len(e.logprobs):
            raise InfrastructureError(f"episode {e.identity}: token_ids, mask and logprobs differ in length")
        if len(e.task_id.encode()) > COLUMNS["task_id"].itemsize:
            raise InfrastructureError(
                f"episode {e.identity}: task_id is longer than {COLUMNS['task_id'].itemsize} bytes"
            )
    lengths = [len(e.token_ids) for e in episodes]
    table = np.array([_row(e) for e in episodes], COLUMNS)
    return Trajectories(
        round=round_,
        tokens=_flat([e.token_ids for e in episodes], np.int32),
        mask=_flat([e.mask for e in episodes], np.uint8),
        logprobs=_flat([e.logprobs for e in episodes], np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episodes=table,
    )


def _row(e: Episode) -> tuple:
    turns = sum(turn.role == "assistant" for turn in e.turns)
    seconds = [e.seconds.get(phase, 0.0) for phase in PHASES]
    row = (e.task_id.encode(), e.attempt, e.level, e.reward, e.status.encode(), e.policy_version, e.seed, turns)
    return (*row, *seconds)


def _flat(rows: list[list], dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(row, dtype) for row in rows]) if rows else np.zeros(0, dtype)


def write(path: Path, trajectories: Trajectories) -> None:
    """Publish the file; the same trajectories give the same bytes."""
    versions = trajectories.episodes["policy_version"]
    with publishing(path) as temporary, h5py.File(temporary, "w", libver="v110") as f:
        f.attrs["format_version"] = FORMAT_VERSION
        f.attrs["round"] = trajectories.round
        f.attrs["policy_version"] = [versions.min(), versions.max()] if len(versions) else [-1, -1]
        for name in ARRAYS:
            array = getattr(trajectories, name)
            f.create_dataset(name, data=array, track_times=False).attrs["sha256"] = _sha256(array)


def read(path: Path) -> Trajectories:
    """Read and check a file.

    Raises:
        InfrastructureError: it is not there, truncated, of another format, or an array's checksum is wrong.
    """
    mend = "remove it and gather the round again"
    try:
        with h5py.File(path, "r") as f:
            if f.attrs["format_version"] != FORMAT_VERSION:
                raise InfrastructureError(f"{path}: format {f.attrs['format_version']}, this reads {FORMAT_VERSION}")
            arrays = {name: f[name][()] for name in ARRAYS}
            for name, array in arrays.items():
                if f[name].attrs["sha256"] != _sha256(array):
                    raise InfrastructureError(f"{path}: the checksum of '{name}' is wrong; {mend}")
            return Trajectories(round=int(f.attrs["round"]), **arrays)
    except (OSError, KeyError) as error:
        raise InfrastructureError(f"{path} cannot be read ({error}); {mend}") from error


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
