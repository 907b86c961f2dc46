"""Which tasks a round plays in the place of those whose attempts have one reward, without anybody in control."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.phase import Phase
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.spread import has_spread, in_play
from aworld.rollout.units import claims_of, reopen_lost, standing, units, units_left
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task

pytestmark = pytest.mark.unit
FORK = multiprocessing.get_context("fork")


def shortest(spreads: list[bool], enough: int) -> int:
    """How many tasks a single player plays, who stops as soon as he has enough."""
    for count in range(len(spreads)):
        if sum(spreads[:count]) == enough:
            return count
    return len(spreads)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_many_workers_with_old_views_play_what_one_would(
    spreads: list[bool], enough: int, chance: random.Random
) -> None:
    """Whatever the order in which units are begun and end, and however old the views are by which they are begun."""
    tasks = [Unit(f"task-{n}", (0, 1)) for n in range(len(spreads))]
    spread = dict(zip((unit.key for unit in tasks), spreads, strict=True))
    begun: set[str] = set()
    done: set[str] = set()
    views = [(set(begun), set(done))]

    def found(begun: set[str], done: set[str]) -> list[str]:
        return [unit.key for unit in in_play(tasks, enough, {key for key in done if not spread[key]}, begun)]

    while not done.issuperset(found(begun, done)):
        if chance.random() < 0.5 and (at_work := sorted(begun - done)):
            done.add(chance.choice(at_work))
        else:
            view = chance.choice(views)
            begun |= set([key for key in found(*view) if key not in begun][:1])  # a claim that is there is not made
        views.append((set(begun), set(done)))
    assert sorted(done) == sorted(begun) == sorted(unit.key for unit in tasks[: max(enough, shortest(spreads, enough))])


def test_attempts_that_were_lost_do_not_make_a_spread() -> None:
    assert has_spread([0.0, 1.0]) and has_spread([None, 0.5, 1.0])
    assert not any(map(has_spread, ([], [None], [1.0, 1.0], [0.0, None], [None, None])))


SPREADS = [n % 3 == 0 for n in range(60)]  # of which 10 are in the first 28
ENOUGH = 10


def round_(folder: Path) -> Workload:
    tasks = [Task(f"task-{n:02}", "question", "answer", 1) for n in range(60)]
    return Workload(Phase.ROUND, "round 1", folder, 1, tasks, 2, 1.0, range(1), enough=ENOUGH)


def _work(folder: Path, owner: str, lease: float, dies_at: int = 0) -> None:
    claims, count = claims_of(round_(folder), owner, lease), 0
    while unit := claims.claim(units(round_(folder))):
        count += 1
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(random.uniform(0, 0.01))
        claims.mark_done(unit, SPREADS[int(unit.task_id[-2:])])


def _crew(folder: Path, names: str, dies_at: int) -> list[int | None]:
    """Let workers play at the same time; their exit codes."""
    crew = [FORK.Process(target=_work, args=(folder, f"worker-{name}", 3600, dies_at)) for name in names]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    return [process.exitcode for process in crew]


def test_processes_of_which_some_are_killed_play_the_same_tasks(tmp_path: Path) -> None:
    workload = round_(tmp_path)
    assert _crew(tmp_path, "abc", dies_at=2) == [-signal.SIGKILL] * 3
    assert _crew(tmp_path, "def", dies_at=0) == [0] * 3
    assert len(units_of_claims(tmp_path)) <= 28 and not standing(workload).is_played
    _work(tmp_path, "worker-g", lease=-3600)  # long after: the leases of the dead are over
    seen = standing(workload)
    assert seen.is_played and {unit.task_id for unit in seen.done} == units_of_claims(tmp_path)
    assert units_of_claims(tmp_path) == {f"task-{n:02}" for n in range(28)}
    assert len(seen.of_one_reward) == 18


def units_of_claims(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (folder / "claims").glob("*.claim")}


def test_one_listing_tells_how_far_a_round_is(tmp_path: Path) -> None:
    """A unit that is played anew, since its records were lost, and one that was begun in its place, stay in play."""
    workload = round_(tmp_path / "0001")
    ours = claims_of(workload, "worker-0", 60)
    assert len(units_left(workload)) == len(standing(workload).units) == ENOUGH
    first = [ours.claim(units(workload)) for _ in range(ENOUGH)]
    assert None not in first and ours.claim(units(workload)) is None
    for unit in first[1:]:
        assert unit and ours.renew(unit)
        ours.mark_done(unit)
    assert first[0]
    ours.mark_done(first[0], has_spread=False)
    assert Claims(workload.folder / "claims", "worker-1", 0).claim([first[0]]) is None
    further = ours.claim(units(workload))
    seen = standing(workload)
    assert further == seen.units[ENOUGH] and (len(seen.units), len(seen.done)) == (ENOUGH + 1, ENOUGH)
    assert [unit.task_id for unit in seen.of_one_reward] == ["task-00"] and not seen.is_played
    ours.reopen(first[0])
    again = standing(workload)
    assert again.units == seen.units and len(again.done) == ENOUGH - 1 and not again.of_one_reward
    reopen_lost(workload)  # nothing of them is in a journal
    assert not standing(workload).done and standing(workload).units == seen.units


def test_without_a_wish_for_spread_one_reward_is_as_good_as_another(tmp_path: Path) -> None:
    claims = Claims(tmp_path, "worker-0", 60)
    unit = claims.claim([Unit("a", (0, 1))])
    assert unit
    claims.mark_done(unit, has_spread=False)
    assert (tmp_path / f"{unit.key}.done").exists() and not claims.marks().of_one_reward
