"""A run whose episodes a scripted expert plays: no GPU, no vLLM, and always the same tokens."""

import hashlib
import sys
import zlib
from pathlib import Path
from subprocess import CompletedProcess

import h5py
import torch
from safetensors.torch import load_file
from warm import aworld

from aworld.rundir import RunDir
from aworld.trajectories import journal

TASKS = 3
LEASE = 3  # seconds
WORDS = f"""
    recipe=demo site=local name=run tasks.train=8 tasks.held_out=2 pipeline.rounds=1 site.sandbox=subprocess
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks={TASKS} training.cold_start.epochs=2 training.cold_start.batch_size=4
    training.save_seconds=0 environment.slots=2 environment.reuse=reset rollout.lease_seconds={LEASE}
    site.gather.tasks_per_node=1
""".split()


class Trial:
    """A run directory, what one does with it, and what has to be true in the end."""

    def __init__(self, root: Path):
        self.run = RunDir(root)

    @property
    def journal(self) -> Path:
        return self.run.round(0) / "journals" / "worker-0.journal"

    def words(self, stage: str) -> list[str]:
        """The words of `aworld` that do a stage."""
        return [stage, str(self.run.root), "--round", "0"]

    def command(self, stage: str) -> list[str]:
        return [sys.executable, "-m", "aworld", *self.words(stage)]

    def aworld(self, stage: str) -> CompletedProcess[str]:
        return aworld(*self.words(stage))

    def finish(self, *stages: str) -> None:
        for stage in stages:
            done = self.aworld(stage)
            assert done.returncode == 0, done.stderr

    def played(self) -> list[str]:
        """The tasks of all records in the journals, also those that are there more than once."""
        paths = self.journal.parent.glob("*.journal")
        return sorted(episode.task_id for path in paths for episode in journal.read(path))

    def gathered(self) -> dict[tuple[str, int], list[int]]:
        """The tokens of each (task, attempt) in trajectories.h5, read by hand, once each and with sound checksums."""
        with h5py.File(self.run.trajectories(0)) as f:
            arrays = {name: data[()] for name, data in f.items()}
            for name in arrays.keys() - {"tokens", "mask", "logprobs"}:
                assert f[name].attrs["sha256"] == hashlib.sha256(arrays[name].tobytes()).hexdigest(), name
        rows, offsets, tokens = arrays["episodes"], arrays["offsets"], arrays["tokens"]
        # the scripted expert's episodes have one context each
        for begin, end, crc32 in zip(offsets[:-1], offsets[1:], arrays["sequences"]["crc32"], strict=True):
            parts = (arrays[name][begin:end].tobytes() for name in ("tokens", "mask", "logprobs"))
            assert crc32 == zlib.crc32(b"".join(parts))
        found = {
            (row["task_id"].decode(), int(row["attempt"])): tokens[offsets[at] : offsets[at + 1]].tolist()
            for at, row in enumerate(rows)
        }
        assert len(found) == len(rows)
        return found

    def assert_trained_like(self, other: "Trial") -> None:
        one, two = (load_file(trial.run.policy(0) / "model.safetensors") for trial in (self, other))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
