"""TensorBoard's own reader finds each figure once, whatever was killed."""

import os
import shutil
import threading
from pathlib import Path

import pytest
import tracked_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aworld.locks import try_to_hold
from aworld.rundir import RunDir, open_run
from aworld.trackers import state
from aworld.trackers import write as writing
from aworld.trackers.write import write

pytestmark = pytest.mark.unit


def scalars(run: RunDir, part: str = "rounds") -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(run.root / "trackers" / "tensorboard" / part))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def bring_up_to_date(run: RunDir) -> int | None:
    config, _ = open_run(run.root)
    return write(config, run, "tensorboard")


def test_the_figures_of_rounds_and_evaluations_are_there(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    assert bring_up_to_date(run) == 3
    found = scalars(run)
    assert found["train/loss"] == [(0, 2.5), (1, 0.25)]
    assert found["reward/mean"] == [(0, 1.0), (1, 0.5)] and found["reward/exact"] == [(0, 0.75), (1, 0.75)]
    assert found["groups/zero_variance"] == [(0, 1.0), (1, 0.0)] and found["tools/error_share"] == [
        (0, 0.25),
        (1, 0.25),
    ]
    assert found["speed/rollout_tokens_per_second"] == [(0, 1.5), (1, 1.5)]  # 2 episodes of 3 tokens in 4 s
    assert found["speed/train_tokens_per_second"] == [(0, 3.0), (1, 3.0)]
    assert {f"seconds/{phase}" for phase in ("rollout", "load", "gather", "train", "wait_for_rollout")} < found.keys()
    # 6 FLOPs a token and parameter of the demo's matrices, and of attention; by 2 s, 2 ranks and 989 TFLOP/s
    a = open_run(run.root)[0].model.architecture
    width, keys = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    layer = a.hidden_size * (2 * width + 2 * keys) + 3 * a.hidden_size * a.intermediate_size
    matrices = a.num_hidden_layers * layer + a.vocab_size * a.hidden_size
    flops = 6 * matrices * 10 + 6 * width * a.num_hidden_layers * 50
    assert found["speed/mfu"][1] == (1, pytest.approx(flops / (2.0 * 2 * 989e12), rel=1e-6))
    evaluation = scalars(run, "evaluation-held-out")
    assert evaluation["evaluation/held-out/reward"] == [(0, 0.0)]
    assert {"evaluation/held-out/level_2", "evaluation/held-out/tool_error_share"} < evaluation.keys()


def test_a_kill_between_the_write_and_the_mark_leaves_no_step_twice(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    found = state.State()
    found.add_new(run, 1)
    state.save(run, "tensorboard", found)
    marks = state.path_of(run, "tensorboard")
    before = marks.read_text()
    assert bring_up_to_date(run) == 3
    files = {path: path.read_bytes() for path in run.root.glob("trackers/tensorboard/*/*")}
    marks.write_text(before)  # as a kill leaves it
    folder = run.root / "trackers" / "tensorboard"
    ours, others = folder / f".new.tmp-{os.uname().nodename}-{2**30}", folder / ".new.tmp-elsewhere-1"
    for path in (ours, others):  # of a process that was killed, and of one on a node that shares no locks
        path.write_bytes(b"half of an ev")
    tracked_run.finish_round(run, 2)
    assert bring_up_to_date(run) == 4
    assert all(path.read_bytes() == content for path, content in files.items())
    assert scalars(run)["train/loss"] == [(0, 2.5), (1, 0.25), (2, -0.125)]
    assert bring_up_to_date(run) == 0
    assert not ours.exists() and others.read_bytes() == b"half of an ev"


def test_damaged_trajectories_cost_their_round_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "AGAIN_SECONDS", 0.0)
    run = tracked_run.make(tmp_path)
    run.trajectories(0).write_bytes(b"no HDF5")
    assert bring_up_to_date(run) == 3
    assert scalars(run)["train/loss"] == [(1, 0.25)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: left out of tracker tensorboard: {run.trajectories(0)} cannot be read")
    assert line.endswith(f"; mend it, then: aworld track {run.root} tensorboard --anew")


def test_trajectories_that_cannot_be_read_for_a_moment_are_read_once_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "AGAIN_SECONDS", 2.0)
    run = tracked_run.make(tmp_path)
    away = run.trajectories(0).rename(tmp_path / "away")
    back = threading.Timer(1.0, away.rename, [run.trajectories(0)])
    back.start()
    assert bring_up_to_date(run) == 3
    back.join()
    assert scalars(run)["train/loss"] == [(0, 2.5), (1, 0.25)]
    assert not capsys.readouterr().err


def test_a_failure_is_forgotten_by_the_process_that_writes(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    state.note_failure(run, "tensorboard", "no space left")
    with try_to_hold(state.lock_of(run, "tensorboard")):
        assert bring_up_to_date(run) is None
    assert state.failures(["tensorboard"], run)
    assert bring_up_to_date(run) == 3
    assert not state.failures(["tensorboard"], run)


def test_a_moved_run_goes_on(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    bring_up_to_date(run)
    moved = RunDir(tmp_path / "elsewhere" / "other")
    shutil.copytree(run.root, moved.root)
    tracked_run.finish_round(moved, 2)
    assert bring_up_to_date(moved) == 1
    assert scalars(moved)["train/loss"] == [(0, 2.5), (1, 0.25), (2, -0.125)]
