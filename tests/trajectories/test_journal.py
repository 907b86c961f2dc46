import resource
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import msgspec
import no_locks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld.errors import InfrastructureError
from aworld.trajectories import journal
from aworld.trajectories.episode import STATUSES, Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TURNS = st.builds(
    Turn, st.sampled_from(["prompt", "assistant", "tool"]), st.text(), arguments=st.dictionaries(st.text(), JSON)
)
EPISODES = st.builds(
    Episode,
    round=st.integers(0, 10**6),
    task_id=st.text(min_size=1),
    attempt=st.integers(0, 1000),
    level=st.integers(1, 3),
    question=st.text(),
    token_ids=st.lists(st.integers(0, 2**31 - 1)),
    mask=st.lists(st.integers(0, 1)),
    logprobs=st.lists(st.floats(max_value=0, width=32)),
    turns=st.lists(TURNS, max_size=3),
    answer=st.none() | st.text(),
    reward=st.sampled_from([0.0, 1.0]),
    status=st.sampled_from(STATUSES),
    seconds=st.dictionaries(st.sampled_from(["total", "tools"]), st.floats(0, 1e6)),
    policy_version=st.integers(0, 10**6),
    seed=st.integers(0, 2**63 - 1),
)


@pytest.fixture
def three(tmp_path, episode):
    """A journal of three records, and where each ends as the file system tells it."""
    path = tmp_path / "worker-0.journal"
    episodes = [episode(f"task-{n}", n) for n in range(3)]
    with Journal(path) as log:
        ends = [path.stat().st_size]
        for one in episodes:
            log.append(one)
            ends.append(path.stat().st_size)
    return path, episodes, ends


@settings(max_examples=60, deadline=None)
@given(episodes=st.lists(EPISODES, min_size=1, max_size=4))
def test_what_is_appended_is_read_back_equal(tmp_path_factory, episodes):
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    for one in episodes:  # a new writer each time
        with Journal(path) as log:
            log.append(one)
    assert list(journal.read(path)) == episodes


def test_logprobs_keep_every_bit(tmp_path, episode):
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    with Journal(tmp_path / "a.journal") as log:
        log.append(episode(length=5000, logprobs=values.tolist()))
    (read,) = journal.read(tmp_path / "a.journal")
    assert np.array_equal(np.asarray(read.logprobs, np.float32).view(np.uint32), values.view(np.uint32))


def test_the_layout_is_the_documented_one(three):
    path, episodes, _ = three
    data = path.read_bytes()
    at = data.index(b"\x1a\n") + 2
    found = []
    while at < len(data):
        magic, length, checksum = struct.unpack_from("<8sII", data, at)
        payload = data[at + 16 : at + 16 + length]
        assert magic == b"\xf1AWJ\x01\r\n\x1a"
        assert zlib.crc32(data[at + 8 : at + 12] + payload) == checksum
        found.append(msgspec.msgpack.decode(payload))
        at += 16 + length
    assert found == [asdict(e) for e in episodes]


def test_a_tail_torn_anywhere_costs_nothing_before_it(three, episode):
    path, episodes, ends = three
    data = path.read_bytes()
    later = episode("later", 9)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        whole = episodes[: sum(end <= cut for end in ends[1:])]
        assert list(journal.read(path)) == whole
        if cut % 7 == 0:
            with Journal(path) as log:
                log.append(later)
            assert list(journal.read(path)) == [*whole, later]


def test_a_flipped_bit_in_the_middle_loses_one_record_and_is_counted(three):
    path, episodes, ends = three
    data = path.read_bytes()
    for at in range(ends[1], ends[2]):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        contents = journal.load(path)
        assert contents.episodes == [episodes[0], episodes[2]]
        assert contents.damaged == ends[2] - ends[1]


def test_a_damaged_journal_still_takes_records_and_keeps_the_good_ones(three, episode):
    path, episodes, ends = three
    data = bytearray(path.read_bytes())
    data[3] ^= 1  # in the header
    data[ends[1] + 5] ^= 1  # in the second record
    path.write_bytes(data)
    with Journal(path) as log:
        log.append(episode("later", 9))
    assert list(journal.read(path)) == [episodes[0], episodes[2], episode("later", 9)]


def test_another_kind_of_file_is_refused_by_name_and_left_alone(tmp_path):
    path = tmp_path / "notes.journal"
    path.write_text("my notes, quite long ones, about something else altogether")
    for open_it in (journal.load, Journal):
        with pytest.raises(InfrastructureError, match=r"notes\.journal is no journal"):
            open_it(path)
    assert path.read_text().startswith("my notes")


@pytest.mark.parametrize("arguments", [{"code": "a\ud800b"}, {"n": 10**40}, {"deep": [{"\udfff": [-(2**63) - 1]}]}])
def test_json_that_msgpack_cannot_hold_does_not_lose_the_episode(tmp_path, episode, arguments):
    path = tmp_path / "a.journal"
    strange = episode(turns=[Turn("tool", "no \ud800", "python", arguments)])
    with Journal(path) as log:
        log.append(strange)
        log.append(episode("next", 1))
    first, second = journal.read(path)
    assert (first.token_ids, first.logprobs, first.identity) == (
        strange.token_ids,
        strange.logprobs,
        strange.identity,
    )
    assert str(10**40) in str(first.turns) or "?" in str(first.turns)
    assert second == episode("next", 1)


WRITER = """
import sys
from pathlib import Path
from aworld.trajectories.journal import Journal, load
source, target = map(Path, sys.argv[1:])
(one,) = load(source).episodes
with Journal(target) as log:
    while True:
        log.append(one)
        print("durable", flush=True)
"""


@pytest.mark.parametrize("records", [1, 40, 300])
def test_a_killed_writer_loses_nothing_it_had_reported(tmp_path, episode, records):
    one = episode(length=2000)
    with Journal(tmp_path / "source") as log:
        log.append(one)
    target = tmp_path / "target.journal"
    command = [sys.executable, "-c", WRITER, str(tmp_path / "source"), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(records):
            assert writer.stdout.readline() == "durable\n"
        with pytest.raises(InfrastructureError, match=r"target\.journal is being written by another process"):
            Journal(target)
        writer.send_signal(signal.SIGKILL)
        reported = records + writer.stdout.read().count("durable\n")
    with Journal(target):
        pass
    found = list(journal.read(target))
    assert reported <= len(found) <= reported + 1
    assert all(e == one for e in found)


def _limit_file_size() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_write_the_file_system_refuses_is_reported_and_undone(tmp_path, episode):
    one = episode(length=2000)
    with Journal(tmp_path / "source") as log:
        log.append(one)
    target = tmp_path / "target.journal"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "source"), str(target)],
        preexec_fn=_limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    written = done.stdout.count("durable\n")
    assert "InfrastructureError" in done.stderr and "target.journal cannot be written" in done.stderr
    contents = journal.load(target)
    assert len(contents.episodes) == written > 1
    assert target.stat().st_size == contents.end < 100_000


TWO_WRITERS = """
import sys
from pathlib import Path
from aworld.trajectories.journal import Journal, load
(one,) = load(Path(sys.argv[1])).episodes
with Journal(Path(sys.argv[2])) as a, Journal(Path(sys.argv[2])) as b:
    for log in (a, b, a):
        log.append(one)
"""


@no_locks.needed
def test_without_locks_every_writer_has_a_file_of_its_own(tmp_path, episode):
    with Journal(tmp_path / "source") as log:
        log.append(episode())
    folder = tmp_path / "journals"
    subprocess.run(
        [sys.executable, "-c", TWO_WRITERS, str(tmp_path / "source"), str(folder / "worker-0.journal")],
        preexec_fn=no_locks.refuse_flock,
        check=True,
    )
    counts = sorted(len(list(journal.read(path))) for path in folder.glob("*.journal"))
    assert [n for n in counts if n] == [1, 2]


def test_collecting_keeps_one_record_per_identity_the_finished_one(tmp_path, episode):
    failed, finished = episode("a", 0, status="infra_error"), episode("a", 0)
    first, second = episode("b", 1, reward=0.0), episode("b", 1, reward=1.0)
    for name, rows in {"w-0": [failed, first], "w-1": [second, finished], "w-2": [failed]}.items():
        with Journal(tmp_path / f"{name}.journal") as log:
            for row in rows:
                log.append(row)
    assert journal.collect(tmp_path) == [finished, first]


def test_a_record_of_another_version_is_named(tmp_path):
    payload = msgspec.msgpack.encode({"something": "else"})
    frame = journal.MAGIC + struct.pack("<II", len(payload), zlib.crc32(struct.pack("<I", len(payload)) + payload))
    path: Path = tmp_path / "a.journal"
    path.write_bytes(journal.HEADER + frame + payload)
    with pytest.raises(InfrastructureError, match=r"a\.journal: the record at byte \d+ is of another version"):
        journal.load(path)
