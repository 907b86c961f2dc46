"""Training that is told to end, or killed, and goes on: the policy is that of an undisturbed training, bit for bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import learned_run
import psutil
import pytest
import torch
import warm
from safetensors.torch import load_file
from warm import aworld

from aworld.publish import is_complete
from aworld.rundir import RunDir

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def trained(once: Callable[..., Path]) -> RunDir:
    return RunDir(once("learned", learned_run.make) / "run")


@pytest.fixture
def again(trained: RunDir, tmp_path: Path) -> Iterator[RunDir]:
    """The same run before its training; nothing of it is left running."""
    run = RunDir(tmp_path / "run")
    shutil.copytree(trained.root, run.root, symlinks=True)
    shutil.rmtree(run.policy(0))
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for name in ("steps.jsonl", "metrics.json"):
        (run.round(0) / name).unlink()
    yield run
    assert not processes_of(run)


def processes_of(run: RunDir) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if str(run.root) in " ".join(p.info["cmdline"] or [])]


def begin(run: RunDir) -> BaseProcess:
    return warm.begin("train", str(run.root), "--round", "0")


def code(trainer: BaseProcess) -> int | None:
    """Its exit code, once it has ended."""
    trainer.join(240)
    return trainer.exitcode


def steps(run: RunDir) -> list[dict]:
    path = run.round(0) / "steps.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def saved(run: RunDir) -> list[Path]:
    """The complete checkpoints within the round, in order."""
    return sorted(path for path in run.checkpoints.glob("round-0000-step-*") if is_complete(path))


def wait_for_steps(run: RunDir, count: int, trainer: BaseProcess) -> None:
    while len(steps(run)) < count:
        assert trainer.exitcode is None, "the trainer ended too soon"
        time.sleep(0.02)


def configure(run: RunDir, *changes: tuple[str, str]) -> None:
    text = run.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    run.config.write_text(text)


def save_seconds(run: RunDir, seconds: float) -> None:
    text, count = re.subn(r"save_seconds: .*", f"save_seconds: {seconds}", run.config.read_text())
    assert count == 1
    run.config.write_text(text)


def finish(run: RunDir, trained: RunDir) -> subprocess.CompletedProcess[str]:
    done = aworld("train", str(run.root), "--round", "0")
    assert done.returncode == 0, done.stderr
    one, other = (load_file(r.policy(0) / "model.safetensors") for r in (run, trained))
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert steps(run) == steps(trained)
    before, after = (json.loads((r.round(0) / "metrics.json").read_text()) for r in (trained, run))
    of_a_process = {"seconds": 0, "computed": 0}
    assert before | of_a_process == after | of_a_process
    return done


SIGNALS = [
    *((signal.SIGUSR1, "parent"), (signal.SIGUSR2, "one rank"), (signal.SIGTERM, "parent")),
    *((signal.SIGTERM, "all"), (signal.SIGINT, "all")),
]


def test_each_signal_saves_the_step_and_the_training_goes_on(again: RunDir, trained: RunDir) -> None:
    """`all`: every process hears it, as at a preemption or Ctrl-C, while a checkpoint is being written."""
    made = 0
    for number, whom in SIGNALS:
        save_seconds(again, 0.0 if whom == "all" else 600.0)
        trainer = begin(again)
        wait_for_steps(again, made + 5, trainer)
        parent = psutil.Process(trainer.pid)
        ranks, started = parent.children(), parent.children(recursive=True)
        for process in {"parent": [parent], "one rank": ranks[-1:], "all": [*started, parent]}[whom]:
            with suppress(psutil.NoSuchProcess):  # a writer that is done
                process.send_signal(number)
        assert code(trainer) == 75, (number, whom)
        made = len(steps(again))
        assert is_complete(again.checkpoints / f"round-0000-step-{made:06d}"), (number, whom)
        assert steps(again) == steps(trained)[:made]
        assert made < len(steps(trained))
    finish(again, trained)


def test_a_kill_costs_the_steps_since_the_last_save_and_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    again: RunDir, trained: RunDir
) -> None:
    save_seconds(again, 0.0)
    trainer = begin(again)
    while len(saved(again)) < 3:
        assert trainer.exitcode is None, "the trainer ended too soon"
        time.sleep(0.02)
    for process in processes_of(again):
        process.kill()
    trainer.join()
    there = saved(again)
    assert len(there) in (3, 4)  # the last few are kept; the oldest is removed once the newest is there
    killed_at, saved_at = len(steps(again)), int(there[-1].name.rpartition("-")[2])
    assert 3 <= saved_at <= killed_at

    trainer = begin(again)
    wait_for_steps(again, killed_at + 4, trainer)
    trainer.terminate()
    assert code(trainer) == 75
    assert steps(again) == steps(trained)[: len(steps(again))]
    _, torn, flipped = saved(again)
    shard = max(flipped.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    os.truncate(max(torn.iterdir(), key=lambda path: path.stat().st_size), 100)
    save_seconds(again, 600.0)
    done = finish(again, trained)
    assert f"{flipped} is damaged ({shard.name}) and passed over" in done.stderr


def test_training_goes_on_in_another_layout(again: RunDir, trained: RunDir) -> None:
    """From tensor parallel 2 to pipeline parallel 2: the same steps, the same weights but for rounding."""
    trainer = begin(again)
    wait_for_steps(again, 5, trainer)
    trainer.terminate()
    assert code(trainer) == 75
    made = len(steps(again))
    configure(
        again,
        ("tensor_model_parallel_size: 2", "tensor_model_parallel_size: 1"),
        ("pipeline_model_parallel_size: 1", "pipeline_model_parallel_size: 2"),
    )
    done = aworld("train", str(again.root), "--round", "0")
    assert done.returncode == 0, done.stderr
    assert steps(again)[:made] == steps(trained)[:made]
    stages = [load_file(path) for path in again.policy(0).glob("*.safetensors")]
    assert len(stages) == 2  # each wrote its own layers
    one, other = stages[0] | stages[1], load_file(trained.policy(0) / "model.safetensors")
    assert max((one[key] - other[key]).abs().max().item() for key in other) < 1e-5
