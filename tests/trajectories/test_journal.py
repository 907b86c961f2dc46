import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, fields
from pathlib import Path
from threading import Event

import msgspec
import no_locks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld.errors import InfrastructureError
from aworld.trajectories import journal
from aworld.trajectories.episode import STATUSES, Context, Episode, Turn
from aworld.trajectories.journal import Journal
from aworld.trajectories.record import Record

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TURNS = st.builds(
    Turn, st.sampled_from(["prompt", "assistant", "tool"]), st.text(), arguments=st.dictionaries(st.text(), JSON)
)
ROWS = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 1), st.floats(max_value=0, allow_infinity=False, width=32)),
    max_size=20,
)
FORMAT_1 = Path(__file__).parent / "data" / "format-1.journal"  # as the first version of the suite wrote it


@st.composite
def any_episode(draw) -> Episode:
    """Any episode that can be trained on, of up to three contexts."""
    rows = draw(ROWS)
    starts = [0, *sorted(draw(st.lists(st.integers(0, len(rows)), max_size=2)))]
    return Episode(
        round=draw(st.integers(0, 10**6)),
        task_id=draw(st.text(min_size=1)),
        attempt=draw(st.integers(0, 1000)),
        level=draw(st.integers(1, 3)),
        question=draw(st.text()),
        token_ids=[token for token, _, _ in rows],
        mask=[bit for _, bit, _ in rows],
        logprobs=[logprob for _, _, logprob in rows],
        turns=draw(st.lists(TURNS, max_size=3)),
        answer=draw(st.none() | st.text()),
        reward=draw(st.sampled_from([0.0, 1.0])),
        status=draw(st.sampled_from(STATUSES)),
        seconds=draw(st.dictionaries(st.sampled_from(["total", "tools"]), st.floats(0, 1e6))),
        policy_version=draw(st.integers(0, 10**6)),
        seed=draw(st.integers(0, 2**63 - 1)),
        contexts=[Context(draw(st.text()), start, draw(st.none() | st.integers(0, 2))) for start in starts],
    )


def brief(e: Episode) -> dict:
    """What a list has to say of an episode, worked out with plain lists."""
    tools = [turn for turn in e.turns if turn.role == "tool"]
    spans = []
    for context, end in zip(e.contexts, [*(c.start for c in e.contexts[1:]), len(e.token_ids)], strict=True):
        own = slice(context.start, end)
        sampled = [at for at, bit in enumerate(e.mask[own]) if bit and at]
        data = struct.pack(f"<{end - context.start}i", *e.token_ids[own]) + bytes(e.mask[own])
        data += struct.pack(f"<{end - context.start}f", *e.logprobs[own])
        last = max(sampled, default=0)
        spans.append((context.agent, context.start, last, len(sampled), zlib.crc32(data)))
    return {
        **{name: getattr(e, name) for name in ("round", "task_id", "attempt", "level", "reward", "status", "seed")},
        **{"reward_parts": e.reward_parts, "error": e.error[:400]},
        **{name: getattr(e, name) for name in ("policy_version", "seconds")},
        "turns": sum(turn.role == "assistant" for turn in e.turns),
        "tools": {
            str(name): (sum(t.tool == name for t in tools), sum(t.tool == name and t.is_error for t in tools))
            for name in {turn.tool for turn in tools}
        },
        "has_answer": e.answer is not None,
        "tokens": len(e.token_ids),
        "spans": spans,
    }


def shown(record: Record) -> dict:
    facts = {field.name: getattr(record, field.name) for field in fields(record)}
    return {**facts, "spans": [tuple(vars(span).values()) for span in record.spans]}


def entries(path: Path) -> list:
    return journal.list_entries(path).entries


@pytest.fixture
def three(tmp_path, episode):
    """A journal of three records, and where each ends as the file system tells it."""
    path = tmp_path / "worker-0.journal"
    episodes = [episode(f"task-{n}", n, 8) for n in range(3)]
    with Journal(path) as log:
        ends = [path.stat().st_size]
        for one in episodes:
            log.append(one)
            ends.append(path.stat().st_size)
    return path, episodes, ends


@settings(max_examples=40, deadline=None)
@given(episodes=st.lists(any_episode(), min_size=1, max_size=4), begins_old=st.booleans())
def test_what_is_appended_is_read_back_equal_and_listed_as_it_is(tmp_path_factory, episodes, begins_old):
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    if begins_old:  # the worker of a run that an earlier version began
        shutil.copy(FORMAT_1, path)
        old = list(journal.read(path))
    for one in episodes:  # a new writer each time
        with Journal(path) as log:
            assert log.append(one) == one
    wanted = [*old, *episodes] if begins_old else episodes
    assert list(journal.read(path)) == wanted
    assert [shown(entry.record) for entry in entries(path)] == [brief(one) for one in wanted]


def test_a_record_that_was_written_before_rewards_had_parts_is_read_and_listed():
    """format-2.journal is of the version that had none; see the episode in it."""
    path = FORMAT_1.with_name("format-2.journal")
    (episode,), (entry,) = journal.read(path), entries(path)
    assert (episode.answer, episode.reward, episode.reward_parts, episode.token_ids) == ("42", 0.5, {}, [1, 2, 3])
    assert shown(entry.record) == brief(episode)


def test_a_journal_of_format_1_is_read_and_listed(episode):
    wanted = [episode(f"task-{n}", n, 12, status="infra_error" if n == 1 else "answered") for n in range(3)]
    assert list(journal.read(FORMAT_1)) == wanted
    assert [shown(entry.record) for entry in entries(FORMAT_1)] == [brief(one) for one in wanted]


def test_a_list_reads_heads_alone(tmp_path, episode):
    """Counted by the kernel, with episodes that are much longer than what is read."""
    path = tmp_path / "a.journal"
    with Journal(path) as log:
        for n in range(4):
            log.append(episode(f"task-{n}", 0, 50_000))

    def read_by(work) -> int:
        def count() -> int:
            return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

        before, own = count(), -count() + count()
        work()
        return count() - before - own

    assert path.stat().st_size > 1_800_000
    assert read_by(lambda: entries(path)) < 30_000
    assert read_by(lambda: journal.find(tmp_path, "task-2", 0)) < 500_000  # one episode of four
    assert read_by(lambda: Journal(path).close()) < 500_000  # the last one, to see that it is whole


@pytest.mark.parametrize("changes", [{"mask": [1]}, {"logprobs": [-1e39] * 20}, {"contexts": [Context("a", 3)]}])
def test_an_episode_that_cannot_be_trained_on_is_recorded_without_its_tokens(tmp_path, episode, changes, capsys):
    with Journal(tmp_path / "a.journal") as log:
        stored = log.append(episode(**changes))
    assert (stored.status, stored.token_ids, [*journal.read(tmp_path / "a.journal")]) == ("infra_error", [], [stored])
    assert "attempt 0 at train-00001 of round 1 is not used" in capsys.readouterr().err


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
        magic, head_bytes, text_bytes, text_crc32, crc32 = struct.unpack_from("<8sIIII", data, at)
        assert magic == b"\xf1AWJ\x02\r\n\x1a"
        head = data[at + 24 : at + 24 + head_bytes]
        assert zlib.crc32(data[at + 8 : at + 20] + head) == crc32
        n, at = msgspec.msgpack.decode(head)["tokens"], at + 24 + head_bytes
        rows = {
            "token_ids": list(struct.unpack_from(f"<{n}i", data, at)),
            "mask": list(data[at + 4 * n : at + 5 * n]),
            "logprobs": list(struct.unpack_from(f"<{n}f", data, at + 5 * n)),
        }
        text = data[at + 9 * n : at + 9 * n + text_bytes]
        assert zlib.crc32(text) == text_crc32
        found.append(msgspec.msgpack.decode(text) | rows)
        at += 9 * n + text_bytes
    assert found == [asdict(e) for e in episodes]


def test_a_tail_torn_anywhere_costs_nothing_before_it(three, episode):
    path, episodes, ends = three
    data = path.read_bytes()
    later = episode("later", 9)
    for cut in (*range(0, ends[2], 9), *range(ends[2], ends[3])):
        path.write_bytes(data[:cut])
        whole = episodes[: sum(end <= cut for end in ends[1:])]
        assert list(journal.read(path)) == whole
        assert [entry.record.identity for entry in entries(path)] == [one.identity for one in whole]
        if cut % 16 == 0:
            with Journal(path) as log:
                log.append(later)
            assert list(journal.read(path)) == [*whole, later]


def test_a_flipped_bit_in_the_middle_loses_one_record_and_is_counted(three, capsys):
    path, episodes, ends = three
    data = path.read_bytes()
    for at in range(ends[1], ends[2]):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert list(journal.read(path)) == [episodes[0], episodes[2]]
        assert f"{ends[2] - ends[1]} bytes are damaged" in capsys.readouterr().err


def test_what_is_struck_out_is_on_no_list(three, capsys):
    """Damage of tokens or text does not show in a list, until a reader of the whole record found it."""
    path, episodes, ends = three
    data = bytearray(path.read_bytes())
    data[ends[2] - 1] ^= 1  # of the text
    path.write_bytes(data)
    assert len(entries(path)) == 3
    journal.strike_out_damaged(path.parent)
    assert f"{ends[2] - ends[1]} bytes are damaged; attempt 1 at task-1 is lost" in capsys.readouterr().err
    assert [entry.record.task_id for entry in entries(path)] == ["task-0", "task-2"]
    assert journal.list_entries(path).damaged == ends[2] - ends[1]
    with Journal(path) as log:
        log.append(episodes[1])
    assert list(journal.read(path)) == [episodes[0], episodes[2], episodes[1]]


def test_a_last_record_that_never_reached_the_disk_is_cut(three):
    """A node that failed may leave a file as long as it was to be, and zeros in it."""
    path, episodes, ends = three
    data = bytearray(path.read_bytes())
    data[ends[3] - 40 :] = bytes(40)
    path.write_bytes(data)
    Journal(path).close()
    assert path.stat().st_size == ends[2] and list(journal.read(path)) == episodes[:2]


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
    for open_it in (journal.list_entries, Journal):
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
from aworld.trajectories.journal import Journal, read
source, target = map(Path, sys.argv[1:])
(one,) = read(source)
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
    contents = journal.list_entries(target)
    assert len(list(journal.read(target))) == written > 1
    assert target.stat().st_size == contents.end < 100_000


TWO_WRITERS = """
import sys
from pathlib import Path
from aworld.trajectories.journal import Journal, read
(one,) = read(Path(sys.argv[1]))
with Journal(Path(sys.argv[2])) as a, Journal(Path(sys.argv[2])) as b:
    for log in (a, b, a):
        log.append(one)
"""


def test_closing_waits_for_a_record_that_another_thread_writes(tmp_path, episode, monkeypatch):
    path, flush, flushing, may_end = tmp_path / "worker-0.journal", os.fdatasync, Event(), Event()
    log = Journal(path)

    def slow(fd: int) -> None:
        flushing.set()
        assert may_end.wait(10)
        flush(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(log.append, episode(attempt=1))
        assert flushing.wait(10)
        closing = threads.submit(log.close)
        assert not wait([closing], 0.2).done
        may_end.set()
        assert writing.result().attempt == 1
        closing.result()
    with pytest.raises(InfrastructureError, match="is closed"):
        log.append(episode(attempt=2))
    assert [each.attempt for each in journal.collect(tmp_path)] == [1]


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
    assert [(r.task_id, r.status) for r in journal.records(tmp_path)] == [("a", "answered"), ("b", "answered")]
    path = tmp_path / "w-1.journal"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the finished one
    path.write_bytes(data)
    assert journal.collect(tmp_path) == [failed, first]
    assert journal.find(tmp_path, "a", 0) == failed and journal.find(tmp_path, "c", 0) is None


def test_a_record_of_another_version_is_named(tmp_path):
    payload = msgspec.msgpack.encode({"something": "else"})
    numbers = struct.pack("<3I", len(payload), 0, 0)
    for frame in (
        b"\xf1AWJ\x01\r\n\x1a"
        + struct.pack("<II", len(payload), zlib.crc32(struct.pack("<I", len(payload)) + payload)),
        b"\xf1AWJ\x02\r\n\x1a" + numbers + struct.pack("<I", zlib.crc32(numbers + payload)),
    ):
        path: Path = tmp_path / "a.journal"
        path.write_bytes(journal.HEADER + frame + payload)
        with pytest.raises(InfrastructureError, match=r"a\.journal: the record at byte \d+ is of another version"):
            journal.list_entries(path)
