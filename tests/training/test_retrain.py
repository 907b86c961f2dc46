"""Rounds that are trained again, after someone has made room: the same policies, and the run can go on from its end."""

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from warm import aworld

from aworld.publish import MARK
from aworld.rundir import RunDir
from aworld.training.position import Position, positions
from aworld.trajectories import file
from aworld.trajectories.arrays import COLUMNS, Trajectories, offsets_of

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1800)]

ROUNDS = 5
WORDS = f"""
    recipe=demo site=local name=base tasks.train=16 tasks.held_out=2 pipeline.rounds={ROUNDS}
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks=0 site.train.tasks_per_node=1 model.parallel.tensor_model_parallel_size=1
""".split()


def train(run: RunDir, number: int) -> CompletedProcess[str]:
    return aworld("train", str(run.root), "--round", str(number))


def trajectories(number: int) -> Trajectories:
    """Four attempts at one task, two of them right."""
    rng = np.random.default_rng(number)
    rows = np.zeros(4, COLUMNS)
    rows["task_id"], rows["attempt"], rows["reward"], rows["status"] = b"a", range(4), [1, 0, 0, 1], b"answered"
    mask = np.tile(np.repeat(np.array([0, 1], np.uint8), 12), 4)
    tokens = rng.integers(0, 256, 96).astype(np.int32)
    return Trajectories(number, tokens, mask, -5 * mask.astype(np.float32), offsets_of(np.full(4, 24)), rows)


def weights(run: RunDir, version: int) -> dict[str, torch.Tensor]:
    return load_file(run.policy(version) / "model.safetensors")


def test_any_policy_is_made_again_bit_for_bit_and_no_checkpoint_is_lost(tmp_path: Path) -> None:
    run = RunDir(Path(aworld("prepare", *WORDS, f"runs={tmp_path}").stdout.strip()))
    for number in range(1, ROUNDS + 1):
        file.write(run.trajectories(number), trajectories(number))
    done = aworld("train", str(run.root))
    assert done.returncode == 0, done.stderr
    before = [weights(run, version) for version in range(ROUNDS + 1)]
    end = [Position(number) for number in (3, 4, 5)]
    assert positions(run.checkpoints) == end
    for number in (3, 4, 5):  # workers wait for the policy, nobody for the checkpoint
        marks = [folder / MARK for folder in (run.policy(number), run.checkpoints / Position(number).name)]
        assert marks[0].stat().st_mtime_ns < marks[1].stat().st_mtime_ns

    for version in (0, 1, 2):
        shutil.rmtree(run.policy(version))
    for number in (1, 2):
        done = train(run, number)
        assert done.returncode == 0, done.stderr
        assert positions(run.checkpoints) == [*map(Position, range(1, number + 1)), *end]

    shutil.rmtree(run.policy(2))
    for number in (1, 2):
        shutil.rmtree(run.checkpoints / Position(number).name)
    hidden = run.trajectories(1).rename(tmp_path / "hidden.h5")
    refused = train(run, 2)
    assert refused.returncode == 4
    assert "round 2 goes on from round 1, which has neither a sound checkpoint" in refused.stderr
    hidden.rename(run.trajectories(1))
    done = train(run, 2)  # and the round before it, whose checkpoint is gone
    assert done.returncode == 0, done.stderr

    for version in range(1, ROUNDS + 1):
        found = weights(run, version)
        assert all(torch.equal(found[key], before[version][key]) for key in before[version])
