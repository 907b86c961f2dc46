import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from aworld import rundir

pytestmark = pytest.mark.unit


def test_a_run_has_stalled_only_when_nothing_became_durable_for_so_long(tmp_path):
    run = rundir.RunDir(tmp_path)
    path = run.round(1) / "journals" / "worker-0.journal"
    path.parent.mkdir(parents=True)
    timer = rundir.StallTimer(run, 1.0)
    assert not timer.has_stalled()
    time.sleep(1.1)
    path.write_text("an episode")
    assert not timer.has_stalled()  # and begins anew
    assert not timer.has_stalled()
    time.sleep(1.1)
    assert timer.has_stalled()


def test_progress_is_seen_of_every_kind_of_work_whatever_else_lies_in_the_run(tmp_path):
    run = rundir.RunDir(tmp_path)
    seen = [rundir.progress_counters(run)]

    def publish(folder: Path) -> None:
        time.sleep(0.01)  # the clock of a file system ticks every few ms
        rundir.publish_folder(folder, lambda where: (where / "a").write_text("weights"))

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("an episode")

    steps = [
        lambda: publish(run.evaluation("mine", 0).parent / "tasks"),  # of a source that generates its tasks
        lambda: write(run.evaluation("mine", 0) / "journals" / "worker-0.journal"),
        lambda: write(run.round(1) / "journals" / "worker-0.journal"),
        lambda: write(run.trajectories(1)),
        lambda: publish(run.checkpoints / "round-0001-step-000004"),
        lambda: [publish(run.checkpoints / "round-0001"), shutil.rmtree(run.checkpoints / "round-0001-step-000004")],
        lambda: publish(run.policy(1)),
        lambda: [
            shutil.rmtree(run.checkpoints / "round-0001"),
            publish(run.checkpoints / "round-0001"),
        ],  # trained again
    ]
    for step in steps:
        step()
        seen.append(rundir.progress_counters(run))
    assert all(one != other for one, other in itertools.pairwise(seen))
    assert seen[-1] == rundir.progress_counters(run) == json.loads(json.dumps(seen[-1]))


def test_a_copy_of_a_policy_beside_the_others_is_no_version(tmp_path):
    run = rundir.RunDir(tmp_path)
    for name in ("0002", "0001", "0001-old", "12000"):
        rundir.publish_folder(run.policy(0).parent / name, lambda where: (where / "a").write_text("weights"))
    assert run.policies() == [1, 2, 12000]


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(tmp_path):
    """A writer that publishes for as long as it lives, killed at many moments."""
    path = tmp_path / "value.json"
    program = f"""
        from pathlib import Path
        from aworld.rundir import publish_json
        n = 0
        while True:
            n += 1
            publish_json(Path({str(path)!r}), {{"n": [n] * 5000}})
    """
    for moment in range(6):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
        give_up = time.monotonic() + 20
        while not path.exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        for _ in range(100 + 37 * moment):
            values = json.loads(path.read_text())["n"]
            assert len(values) == 5000 and len(set(values)) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        values = json.loads(path.read_text())["n"]
        assert len(values) == 5000 and len(set(values)) == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    rundir.publish_text(path, "old")
    with pytest.raises(RuntimeError), rundir.publishing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_complete_only_with_all_that_its_mark_vouches_for(tmp_path):
    folder = tmp_path / "policy"
    rundir.publish_folder(folder, lambda where: [(where / name).write_text(name * 9) for name in "ab"])
    assert rundir.is_complete(folder)
    os.truncate(folder / "b", 4)
    assert not rundir.is_complete(folder)
    (folder / "b").unlink()
    assert not rundir.is_complete(folder)
    rundir.publish_folder(folder, lambda where: (where / "c").write_text("again"))
    assert rundir.is_complete(folder)
    assert sorted(p.name for p in folder.iterdir()) == [rundir.MARK, "c"]
    (folder / rundir.MARK).write_text("{")
    assert not rundir.is_complete(folder)


def test_a_complete_folder_is_not_written_again(tmp_path):
    folder = tmp_path / "policy"
    rundir.publish_folder(folder, lambda where: (where / "a").write_text("first"))
    rundir.publish_folder(folder, lambda where: pytest.fail("called"))
    assert (folder / "a").read_text() == "first"


def test_lines_of_a_torn_log_are_read_up_to_the_tear(tmp_path):
    path = tmp_path / "log.jsonl"
    for n in range(3):
        rundir.append_json(path, {"n": n})
    os.truncate(path, path.stat().st_size - 2)
    assert rundir.read_jsonl(path) == [{"n": 0}, {"n": 1}]
    assert rundir.read_jsonl(tmp_path / "none") == []
