"""How a worker goes from one workload to the next."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.phase import Phase
from aworld.publish import publish_folder
from aworld.rollout import stage
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.stage import WorkerInfo, rollout
from aworld.rollout.units import is_closed, reopen_lost, units
from aworld.rollout.worker import Worker
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit

TASKS = [Task(name, "question", "answer", 1) for name in "ab"]
WORKER = WorkerInfo(0, "rollout-0", "worker-0", gathers=True)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@pytest.fixture
def config() -> Config:
    return configuration.load(["recipe=demo", "site.gather.tasks_per_node=1", "tasks.train=2", "tasks.held_out=2"])


def round_(run: RunDir, number: int = 1, oldest: int = 0) -> Workload:
    return Workload(Phase.ROUND, f"round {number}", run.round(number), number, TASKS, 1, 1.0, range(oldest, number))


def claims(workload: Workload, owner: str, lease: float = 3600) -> Claims:
    return Claims(workload.folder / "claims", owner, lease)


def play(workload: Workload, owner: str) -> None:
    """All of it, by hand."""
    held = claims(workload, owner)
    with Journal(workload.folder / "journals" / f"{owner}.journal") as log:
        while unit := held.claim(units(workload)):
            log.append(
                Episode(
                    *(workload.round, unit.task_id, 0, 1, "question", [1, 2], [0, 1], [0.0, -0.5], [], "answer", 1.0),
                    *("answered", {}, 0, 0),
                )
            )
            held.mark_done(unit)


async def idle(workload: Workload) -> None:
    """The worker without a sandbox or a policy: it must not need one."""
    nobody: object = None
    config = configuration.load(["recipe=demo", "rollout.lease_seconds=3600"])
    worker = Worker(config, workload, nobody, nobody, nobody, "worker-0")  # type: ignore[arg-type]
    await asyncio.wait_for(worker.run(), 30)


def test_a_worker_returns_while_another_holds_what_is_left(run: RunDir) -> None:
    straggler = claims(round_(run), "worker-1")
    while straggler.claim(units(round_(run))):
        pass
    asyncio.run(idle(round_(run)))
    assert not straggler.all_done(units(round_(run)))


def test_a_free_unit_is_seen_without_claiming_it(run: RunDir) -> None:
    all_units, other = units(round_(run)), claims(round_(run), "worker-1")
    ours = claims(round_(run), "worker-0")
    assert ours.has_free(all_units)
    first = other.claim(all_units)
    assert first and ours.has_free(all_units)
    second = other.claim(all_units)
    assert second and not ours.has_free(all_units)
    other.release(second)
    assert ours.has_free(all_units)
    other.mark_done(first)
    assert ours.claim(all_units) == second


def test_units_whose_records_are_lost_are_free_again(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    workload = round_(run)
    play(workload, "worker-1")
    reopen_lost(workload)
    assert not claims(workload, "worker-0").has_free(units(workload))
    (path,) = (workload.folder / "journals").glob("*.journal")
    os.truncate(path, path.stat().st_size - 3)
    reopen_lost(workload)
    assert claims(workload, "worker-0").has_free(units(workload))
    assert "1 episodes of b are lost, and played again" in capsys.readouterr().err


def test_a_worker_that_waits_for_a_policy_looks_after_what_it_began(
    run: RunDir, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any admitted policy will do: an older one may have been removed."""
    monkeypatch.setattr(stage, "LOOK_SECONDS", 0.1)
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            publish_folder(run.policy(4), lambda folder: None)

    async def wait() -> None:
        await stage._wait_for_policy(config, run, round_(run, 5, oldest=3), WORKER, look, lambda: False)

    asyncio.run(wait())
    assert looks == 3


def test_a_round_that_others_have_played_waits_for_no_policy(run: RunDir, config: Config) -> None:
    workload = round_(run)
    play(workload, "worker-1")

    async def look() -> None:
        pytest.fail("waits")

    asyncio.run(stage._wait_for_policy(config, run, workload, WORKER, look, lambda: False))


def take_all(workload: Workload, owner: str) -> tuple[Claims, list[Unit]]:
    held = claims(workload, owner)
    return held, [unit for _ in TASKS if (unit := held.claim(units(workload)))]


def go(config: Config, run: RunDir, workloads: list[Workload], worker: WorkerInfo) -> None:
    """The stage, of which nothing is free: it starts no sandbox and no vLLM."""
    config.site.sandbox = "subprocess"
    source = make_source(config.tasks, run.tasks)
    asyncio.run(asyncio.wait_for(rollout(config, run, workloads, source, worker), 60))


def test_a_worker_goes_on_to_the_next_workload_and_closes_it(run: RunDir, config: Config) -> None:
    publish_folder(run.policy(0), lambda folder: None)
    take_all(round_(run), "worker-1")
    after = Workload(Phase.EVALUATION, "evaluation 0", run.evaluation("held-out", 0), 0, TASKS, 1, 1.0, range(1))
    play(after, "worker-1")
    go(config, run, [round_(run), after], WORKER)
    assert is_closed(after) and not is_closed(round_(run))


def test_the_copy_of_a_worker_stays_until_the_other_is_done(run: RunDir, config: Config) -> None:
    """Else its job would end, and what comes after it begin, while the other is at work where Slurm does not see it."""
    publish_folder(run.policy(0), lambda folder: None)
    other, units = take_all(round_(run), "worker-0")
    copy = threading.Thread(target=go, args=(config, run, [round_(run)], WorkerInfo(0, "c", "worker-0-c", False, True)))
    copy.start()
    copy.join(2)
    assert copy.is_alive()
    for unit in units:
        other.mark_done(unit)
    copy.join(60)
    assert not copy.is_alive()
