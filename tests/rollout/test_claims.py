import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.rollout.claims import Claims, Unit

pytestmark = pytest.mark.unit

UNITS = [Unit(f"task-{n}", (0, 1, 2, 3)) for n in range(60)]
FORK = multiprocessing.get_context("fork")


def _take_all(folder: Path, owner: str, lease: float, start: float, finish: bool, taken: Path) -> None:
    time.sleep(max(0.0, start - time.time()))
    claims = Claims(folder, owner, lease)
    with taken.open("w") as f:
        while unit := claims.claim(UNITS):
            f.write(unit.task_id + "\n")
            if finish:
                claims.mark_done(unit)


def _race(tmp_path: Path, lease: float, finish: bool, processes: int = 6) -> Counter:
    """Let real processes claim the same units at the same moment; how often each was taken."""
    start = time.time() + 0.3
    files = [tmp_path / f"taken-{n}" for n in range(processes)]
    crew = [
        FORK.Process(target=_take_all, args=(tmp_path / "claims", f"worker-{n}", lease, start, finish, files[n]))
        for n in range(processes)
    ]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
        assert process.exitcode == 0
    return Counter(line for file in files for line in file.read_text().split())


@pytest.mark.parametrize("finish", [True, False])
def test_many_processes_take_every_unit_once(tmp_path, finish):
    assert _race(tmp_path, 60, finish) == {unit.task_id: 1 for unit in UNITS}
    assert Claims(tmp_path / "claims", "x", 60).all_done(UNITS) == finish
    assert len(Claims(tmp_path / "claims", "x", 60).marks().done) == (len(UNITS) if finish else 0)


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_takers_of_an_expired_claim_one_wins(tmp_path, attempt):
    dead = Claims(tmp_path / "claims", "dead", 60)
    while dead.claim(UNITS):
        pass
    long_ago = time.time() - 1000
    for claim in (tmp_path / "claims").iterdir():
        os.utime(claim, (long_ago, long_ago))
    assert _race(tmp_path, 60, finish=False) == {unit.task_id: 1 for unit in UNITS}


HOLDER = """
import sys, time
from pathlib import Path
from aworld.rollout.claims import Claims, Unit
claims = Claims(Path(sys.argv[1]), "holder", float(sys.argv[2]))
unit = claims.claim([Unit("t", (0,))])
while True:
    print("held", flush=True)
    time.sleep(float(sys.argv[2]) / 4)
    assert claims.renew(unit)
"""


def test_a_claim_lasts_as_long_as_its_holder_and_a_lease_more(tmp_path):
    lease, unit = 5.0, Unit("t", (0,))
    other = Claims(tmp_path, "other", lease)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), str(lease)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        until = time.monotonic() + 1.2 * lease
        while time.monotonic() < until:  # renewed, it outlasts its lease
            assert other.claim([unit]) is None
            time.sleep(0.1)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    killed = time.monotonic()
    (claim,) = tmp_path.glob("*.claim")
    renewed = claim.stat().st_mtime
    while other.claim([unit]) is None:
        assert time.monotonic() < killed + 10 * lease
        time.sleep(0.02)
    (taken,) = set(tmp_path.glob("*.claim")) - {claim}
    assert taken.stat().st_mtime - renewed >= lease


def test_a_worker_that_comes_back_has_its_units_at_once(tmp_path):
    before = Claims(tmp_path, "worker-0", 1000)
    mine = [before.claim(UNITS) for _ in range(3)]
    theirs = Claims(tmp_path, "worker-1", 1000).claim(UNITS)
    back = Claims(tmp_path, "worker-0", 1000)
    assert [back.claim(UNITS) for _ in range(3)] == mine
    assert back.claim(UNITS) not in [*mine, theirs, None]  # and then goes on to new ones


def test_a_released_unit_is_free_at_once_and_a_done_one_never(tmp_path):
    one, other = Claims(tmp_path, "one", 1000), Claims(tmp_path, "other", 1000)
    unit = one.claim(UNITS[:1])
    assert other.claim(UNITS[:1]) is None
    one.release(unit)
    assert other.claim(UNITS[:1]) == unit
    assert not other.all_done(UNITS[:1])
    other.mark_done(unit)
    assert one.all_done(UNITS[:1])
    assert one.claim(UNITS[:1]) is None and Claims(tmp_path, "other", 0).claim(UNITS[:1]) is None


def test_of_two_outcomes_the_one_that_begins_no_other_unit_counts(tmp_path):
    """Two owners may finish a unit, where one hung beyond its lease; engines do not sample alike bit for bit."""
    claims = Claims(tmp_path, "worker-0", 60.0, enough=1)
    for has_spread in (True, False):
        claims.mark_done(UNITS[0], has_spread)
    marks = claims.marks()
    assert marks.done == {UNITS[0].key} and not marks.of_one_reward
    assert claims.in_play(UNITS[:3], marks) == UNITS[:1]


def test_a_holder_learns_that_it_was_too_late(tmp_path):
    slow, quick = Claims(tmp_path, "slow", 0.05), Claims(tmp_path, "quick", 0.05)
    unit = slow.claim(UNITS[:1])
    assert slow.renew(unit)
    time.sleep(0.2)
    assert quick.claim(UNITS[:1]) == unit
    assert not slow.renew(unit)
    assert quick.renew(unit)
    slow.mark_done(unit)  # all the same, between two of its renewals
    assert not quick.renew(unit)


def test_claiming_among_ten_thousand_units_takes_one_scan(tmp_path):
    units = [Unit(f"task-{n}", tuple(range(8))) for n in range(10_000)]
    for unit in units[:-5]:
        (tmp_path / f"{unit.key}.done").touch()
    claims = Claims(tmp_path, "worker-0", 60)
    claims.claim(units)
    claimed = []
    calls = _calls(lambda: claimed.append(claims.claim(units)))
    assert claimed == [units[-4]]
    assert calls["scandir"] == 1
    assert calls["stat"] + calls["open"] < 20  # not one for each: they would take long on a shared disk


def _calls(work: Callable[[], object]) -> Counter[str]:
    """The calls of functions written in C, by name."""
    calls: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, called: calls.update([called.__name__] if event == "c_call" else []))
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_claims_that_others_make_are_not_looked_at_before_their_lease_may_end(tmp_path):
    units = [Unit(f"task-{n}", (0,)) for n in range(500)]
    ours, others = Claims(tmp_path, "ours", 1000), Claims(tmp_path, "others", 1000)
    theirs = [others.claim(units) for _ in range(200)]
    first = _calls(lambda: ours.claim(units))  # whether they are from an earlier life of ours
    for _ in range(200):
        others.claim(units)
    later = [_calls(lambda: ours.claim(units)) for _ in range(2)]
    assert first["stat"] >= 200 and all(calls["stat"] + calls["open"] < 10 for calls in later)
    others.release(theirs[0])
    assert ours.claim(units) == theirs[0]


def test_a_claim_that_was_seen_late_expires_all_the_same(tmp_path):
    ours, others = Claims(tmp_path, "ours", 0.2), Claims(tmp_path, "others", 0.2)
    assert ours.claim(UNITS[:1]) == UNITS[0]
    assert others.claim(UNITS[:2]) == UNITS[1]
    assert not ours.has_free(UNITS[:2])
    time.sleep(0.5)
    assert ours.claim(UNITS[:2]) == UNITS[1]


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=120), st.lists(st.integers(0, 99), min_size=1, unique=True).map(tuple)),
        unique=True,
    )
)
def test_keys_are_distinct_file_names(pairs):
    keys = [Unit(task, attempts).key for task, attempts in pairs]
    assert len(set(keys)) == len(pairs)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,200}", key) and key[0] != "." for key in keys)
