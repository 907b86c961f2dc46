"""`trajectories.h5`: what training reads. Flat ragged arrays, one table of episodes, checksums.

The layout is documented in docs/trajectory-file-format.md; any HDF5 reader opens it.
"""

import hashlib
import importlib.metadata
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from aworld.errors import InfrastructureError
from aworld.publish import publishing
from aworld.rundir import RunDir
from aworld.trajectories.arrays import COLUMNS, CONTEXT, Trajectories

FORMAT_VERSION = 3
MEND = "remove it and gather the round again"
ARRAYS = {
    "tokens": np.dtype("<i4"),
    "mask": np.dtype("u1"),
    "logprobs": np.dtype("<f4"),
    "offsets": np.dtype("<i8"),
    "episodes": COLUMNS,
    "contexts": CONTEXT,
    "context_offsets": np.dtype("<i8"),
}


def write(path: Path, trajectories: Trajectories) -> None:
    """Publish the file. The same trajectories give the same bytes.

    Raises:
        InfrastructureError: an array is of the wrong type, or lengths do not fit together.
    """
    arrays = {name: np.ascontiguousarray(getattr(trajectories, name)) for name in ARRAYS}
    if not _fits(arrays):
        raise InfrastructureError(f"{path}: refusing to write arrays whose types or lengths do not fit together")
    versions = trajectories.episodes["policy_version"]
    with publishing(path) as temporary, h5py.File(temporary, "w", libver="v110") as f:
        f.attrs["format_version"] = FORMAT_VERSION
        f.attrs["round"] = trajectories.round
        f.attrs["policy_version"] = [versions.min(), versions.max()] if len(versions) else [-1, -1]
        f.attrs["created_by"] = _created_by()
        for name, array in arrays.items():
            f.create_dataset(name, data=array, dtype=ARRAYS[name], track_times=False).attrs["sha256"] = _sha256(array)


def read(path: Path, verify: bool = True) -> Trajectories:
    """The trajectories in a file.

    Args:
        verify: whether to check them against their checksums.

    Raises:
        InfrastructureError: the file is missing, truncated or of another format, or an array's checksum is wrong.
    """
    round_, arrays = _read(path, tuple(ARRAYS), verify)
    if not _fits(arrays):
        raise InfrastructureError(f"{path}: the offsets do not fit the other arrays; {MEND}")
    return Trajectories(round=round_, **arrays)


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The `episodes` [E] of a file and the number of tokens of each, int64 [E]; nothing else is read.

    Raises:
        InfrastructureError: as `read` does.
    """
    _, arrays = _read(path, ("offsets", "episodes"), verify=True)
    return arrays["episodes"], np.diff(arrays["offsets"])


def discard_if_damaged(run: RunDir, round_: int) -> None:
    """Remove a round's trajectories if they cannot be read, so that its journals are gathered again."""
    path = run.trajectories(round_)
    try:
        if path.exists():
            read(path)
    except InfrastructureError as damage:
        print(f"warning: {damage}; removed", file=sys.stderr)
        path.unlink()
        shutil.rmtree(run.round(round_) / "closing", ignore_errors=True)  # the claim of the gather that is done


def _read(path: Path, names: Sequence[str], verify: bool) -> tuple[int, dict[str, np.ndarray]]:
    try:
        with h5py.File(path, "r") as f:
            if f.attrs["format_version"] != FORMAT_VERSION:
                raise InfrastructureError(f"{path}: format {f.attrs['format_version']}, this reads {FORMAT_VERSION}")
            arrays = {name: f[name][()] for name in names}
            for name, array in arrays.items():
                if array.dtype != ARRAYS[name] or (verify and f[name].attrs["sha256"] != _sha256(array)):
                    raise InfrastructureError(f"{path}: the checksum of '{name}' is wrong; {MEND}")
            return int(f.attrs["round"]), arrays
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # any of them may come from a torn file
        raise InfrastructureError(f"{path} cannot be read ({error}); {MEND}") from error


def _fits(arrays: dict[str, np.ndarray]) -> bool:
    """Whether the arrays are of the right types and their lengths fit together."""
    if any(array.dtype != ARRAYS[name] or array.ndim != 1 for name, array in arrays.items()):
        return False
    offsets, tokens = arrays["offsets"], len(arrays["tokens"])
    return bool(
        len(offsets) == len(arrays["episodes"]) + 1
        and offsets[0] == 0
        and offsets[-1] == tokens == len(arrays["mask"]) == len(arrays["logprobs"])
        and (np.diff(offsets) >= 0).all()
        and len(arrays["context_offsets"]) == len(offsets)
        and arrays["context_offsets"][0] == 0
        and arrays["context_offsets"][-1] == len(arrays["contexts"])
        and (np.diff(arrays["context_offsets"]) > 0).all()
    )


def _created_by() -> str:
    version = importlib.metadata.version("aworld-slurm")
    return f"aworld-slurm {version}, h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
