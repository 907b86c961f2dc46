"""Offline runs of the real W&B, read back record by record from its files."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tracked_run

from aworld.rundir import RunDir
from aworld.trackers import state

pytestmark = pytest.mark.tools

BLOCK, HEADER = 32768, 7  # of a .wandb file, which is a log of LevelDB's kind


def start(run: RunDir) -> "subprocess.Popen[str]":
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    command = [sys.executable, "-m", "aworld.trackers.write", str(run.root), "wandb"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # the end of a block, which no header fits in
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def logged(run: RunDir) -> tuple[dict[int, dict[str, float]], set[tuple[str, str, str]]]:
    """The rows by their step; and id, project and name of all runs. No step may be there twice."""
    rows: dict[int, dict[str, float]] = {}
    runs = set()
    for path in sorted(run.root.glob("trackers/wandb/offline-run-*/*.wandb")):
        for record in records(path):
            match record.WhichOneof("record_type"):
                case "history":
                    row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                    assert record.history.step.num not in rows
                    rows[record.history.step.num] = row
                case "run":
                    runs.add((record.run.run_id, record.run.project, record.run.display_name))
    return rows, runs


def test_figures_are_there_once_after_kills(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    process = start(run)
    while not [*run.root.glob("trackers/wandb/.*/wandb/offline-run-*/*.wandb")]:  # in the middle of its writing
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert finish(start(run)) == "wandb: 3 written\n"
    marks = state.path_of(run, "wandb")
    values = json.loads(marks.read_text())
    marks.write_text(json.dumps(values | {"written": 0}))  # as a kill between the write and the mark leaves it
    tracked_run.finish_round(run, 2)
    assert finish(start(run)) == "wandb: 4 written\n"
    rows, runs = logged(run)
    assert runs == {(values["key"], "tracked", "tracked")}
    assert [rows[step].get("train/loss") for step in range(4)] == [2.5, 0.25, None, -0.125]
    assert [rows[step].get("round") for step in range(4)] == [0, 1, None, 2]
    assert rows[2]["evaluation/held-out/policy"] == 0 and rows[2]["evaluation/held-out/reward"] == 0.0
    assert not [*run.root.glob("trackers/wandb/.*")]
