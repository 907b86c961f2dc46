"""A round that takes long to gather is gathered once, with all that was played."""

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from aworld import config as configuration
from aworld.phase import Phase
from aworld.rollout.claims import Claims
from aworld.rollout.stage import CLOSING, WorkerInfo, close
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.tasks.task import Task
from aworld.trajectories import file
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.engine


def test_the_worker_that_gathers_keeps_its_claim(tmp_path: Path) -> None:
    """Its ranks are stopped for several leases while another worker tries to close the round as well.

    One of the first two tasks has attempts of one reward, so that three of four are played.
    """
    run, tasks = RunDir(tmp_path), [Task(name, "question", "answer", 1) for name in "abcd"]
    config = configuration.load(["recipe=demo", "site.gather.tasks_per_node=1", "rollout.lease_seconds=2"])
    workload = Workload(Phase.ROUND, "round 1", run.round(1), 1, tasks, 1, 1.0, range(1), enough=2)
    played = claims_of(workload, "worker-1", 60)
    with Journal(workload.folder / "journals" / "worker-1.journal") as log:
        while unit := played.claim(units(workload)):
            what = (1, unit.task_id, 0, 1, "question", [1, 2], [0, 1], [0.0, -0.5], [], "answer", 1.0)
            log.append(Episode(*what, "answered", {}, 0, 0))
            played.mark_done(unit, has_spread=unit.task_id != "a")

    def ranks() -> list[psutil.Process]:
        words = ("aworld.trajectories.gather", str(run.root))
        return [p for p in psutil.Process().children(recursive=True) if all(word in p.cmdline() for word in words)]

    other = Claims(workload.folder / "closing", "worker-1", config.rollout.lease_seconds)
    with ThreadPoolExecutor() as threads:
        worker = WorkerInfo(0, "rollout-0", "worker-0", gathers=True)
        closing = threads.submit(asyncio.run, close(config, run, workload, worker))
        while not (stopped := ranks()):
            assert not closing.done(), closing.result()
            time.sleep(0.01)
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 3 * config.rollout.lease_seconds
        while time.monotonic() < until:
            assert other.claim([CLOSING]) is None
            time.sleep(0.1)
        for process in stopped:
            process.send_signal(signal.SIGCONT)
        closing.result()
    assert file.read(run.trajectories(1)).episodes["task_id"].tolist() == [b"a", b"b", b"c"]
    assert (workload.folder / "closing" / f"{CLOSING.key}.done").read_text() == "worker-0"
