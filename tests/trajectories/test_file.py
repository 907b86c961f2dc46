import hashlib
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld.errors import InfrastructureError
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Context

pytestmark = pytest.mark.unit

FORMAT = Path(__file__).parents[2] / "docs" / "trajectory-file-format.md"
TABLES = ("offsets", "episodes", "contexts", "context_offsets", "sequences")
TOKENS = ("tokens", "mask", "logprobs")
ARRAYS = (*TOKENS, *TABLES)
FORMAT_3 = Path(__file__).parent / "data" / "format-3.h5"  # as the first version of the suite wrote it


@pytest.fixture(scope="module")
def written(tmp_path_factory, episode):
    """Some episodes of uneven length, one without tokens, and the file they were written to."""
    episodes = [episode("täsk-1", 0, 30), episode("täsk-1", 1, 0, status="infra_error"), episode("z", 0, 7)]
    path = tmp_path_factory.mktemp("file") / "trajectories.h5"
    file.write(path, arrays.from_episodes(1, episodes))
    return path, episodes


def test_bare_h5py_reads_what_happened(written):
    path, episodes = written
    with h5py.File(path, "r") as f:
        offsets = f["offsets"][()]
        assert (f.attrs["format_version"], f.attrs["round"], f.attrs["policy_version"].tolist()) == (4, 1, [0, 0])
        assert "h5py" in f.attrs["created_by"]
        for at, e in enumerate(episodes):
            span, row = slice(offsets[at], offsets[at + 1]), f["episodes"][at]
            assert f["tokens"][span].tolist() == e.token_ids
            assert f["mask"][span].tolist() == e.mask
            assert np.array_equal(f["logprobs"][span], np.array(e.logprobs, np.float32))
            assert (row["task_id"].decode(), row["attempt"], row["level"]) == (e.task_id, e.attempt, e.level)
            assert (row["reward"], row["status"].decode(), row["seed"]) == (e.reward, e.status, e.seed)
            assert (row["turns"], row["policy_version"]) == (1, 0)
            assert row["seconds_tools"] == np.float32(0.25)
            owned = f["contexts"][f["context_offsets"][at] : f["context_offsets"][at + 1]]
            assert [(c["agent"].decode(), c["start"]) for c in owned] == [(c.agent, c.start) for c in e.contexts]
            facts = f["sequences"][f["context_offsets"][at] : f["context_offsets"][at + 1]]
            for context, end, found in zip(e.contexts, [*owned["start"][1:], len(e.mask)], facts, strict=True):
                sampled = [i for i, bit in enumerate(e.mask[context.start : end]) if bit and i]
                assert (found["inputs"], found["sampled"]) == (max(sampled, default=0), len(sampled))
                part = slice(offsets[at] + context.start, offsets[at] + end)
                assert found["crc32"] == zlib.crc32(b"".join(f[name][part].tobytes() for name in TOKENS))
        assert h5py.check_string_dtype(f["episodes"].dtype["task_id"]).encoding == "utf-8"
        for name in TABLES:
            assert f[name].attrs["sha256"] == hashlib.sha256(f[name][()].tobytes()).hexdigest()


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), max_size=6), seed=st.integers(0, 2**32))
def test_round_trip_is_bit_equal_and_the_same_bytes_twice(tmp_path_factory, lengths, seed):
    rng = np.random.default_rng(seed)
    count, table = sum(lengths), np.zeros(len(lengths), arrays.COLUMNS)
    table["seed"] = rng.integers(0, 2**63, len(lengths))
    table["task_id"] = [f"ta\u00dfk{n}".encode() for n in range(len(lengths))]
    one = arrays.Trajectories(
        round=7,
        tokens=rng.integers(-(2**31), 2**31, count, dtype=np.int32),
        mask=rng.integers(0, 2, count, dtype=np.uint8),
        logprobs=rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32),  # NaN and infinity too
        offsets=np.array([0, *np.cumsum(lengths)], np.int64),
        episodes=table,
    )
    folder = tmp_path_factory.mktemp("file")
    file.write(folder / "a.h5", one)
    file.write(folder / "b.h5", one)
    again = file.read(folder / "a.h5")
    assert again.round == 7
    for name in ARRAYS:
        assert getattr(again, name).tobytes() == getattr(one, name).tobytes()
        assert getattr(again, name).dtype == getattr(one, name).dtype
    assert (folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "b.h5"]


def test_selecting_is_what_lists_would_be(tmp_path, episode):
    episodes = [episode(f"t{n}", n, length) for n, length in enumerate((5, 0, 9, 3))]
    whole = arrays.from_episodes(1, episodes)
    file.write(tmp_path / "a.h5", whole)
    stored = file.open_(tmp_path / "a.h5")
    for rows in ([3, 1, 0, 3], [2], []):
        wanted = arrays.from_episodes(1, [episodes[row] for row in rows])
        for name in ARRAYS:
            assert getattr(whole.select(rows), name).tobytes() == getattr(wanted, name).tobytes()
            assert getattr(whole.select(rows), name).dtype == getattr(wanted, name).dtype
        same_rows(stored.select(rows), wanted)
        same_rows(stored.select([*rows, 0]).select(range(len(rows))), wanted)


def same_rows(stored, wanted):
    """The same tables, and the same tokens of each context."""
    for name in TABLES:
        assert getattr(stored, name).tobytes() == getattr(wanted, name).tobytes()
    numbers = range(len(wanted.contexts))
    for one, other in zip(stored.read(numbers), wanted.read(numbers), strict=True):
        pairs = zip(one, other, strict=True)
        assert all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def test_tokens_are_read_where_they_are_asked_for(tmp_path, episode):
    """Counted by the kernel: a context of one episode of sixteen."""
    file.write(tmp_path / "a.h5", arrays.from_episodes(1, [episode(f"t{n:02}", 0, 20_000) for n in range(16)]))

    def count() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    before = count()
    stored = file.open_(tmp_path / "a.h5")
    opened = count() - before
    ((tokens, _, _),) = stored.read([3])
    assert opened < 60_000 < len(tokens) * 9 <= count() - before < 300_000


def test_pieces_do_not_show_in_the_file(written, tmp_path):
    path, _ = written
    stored = file.open_(path)
    tables = {name: getattr(stored, name) for name in TABLES}
    whole = file.read(path)
    with file.writing(tmp_path / "a.h5", 1, tables) as put:
        for at in range(0, len(whole.tokens), 5):
            put(at, tuple(getattr(whole, name)[at : at + 5] for name in TOKENS))
    assert (tmp_path / "a.h5").read_bytes() == path.read_bytes()


def test_a_file_of_format_3_is_read_and_checked_as_a_whole(tmp_path, episode):
    episodes = [episode(f"task-{n}", n, 12, status="infra_error" if n == 1 else "answered") for n in range(3)]
    wanted = arrays.from_episodes(1, episodes)
    for found in (file.read(FORMAT_3), file.open_(FORMAT_3)):
        same_rows(found, wanted)
    file.verify(FORMAT_3)
    with h5py.File(FORMAT_3) as f:
        at = f["logprobs"].id.get_offset()
    data, spoilt = bytearray(FORMAT_3.read_bytes()), tmp_path / "spoilt.h5"
    data[at + 9] ^= 1
    spoilt.write_bytes(data)
    for reader in (file.read, file.open_, file.verify):
        with pytest.raises(InfrastructureError, match=r"spoilt\.h5: the checksum of 'logprobs' is wrong"):
            reader(spoilt)


def test_the_table_alone_reads_like_the_whole(written):
    path, episodes = written
    table, lengths = file.read_table(path)
    assert lengths.tolist() == [30, 0, 7]
    assert [row.decode() for row in table["task_id"]] == [e.task_id for e in episodes]


def test_a_damaged_byte_anywhere_is_noticed(written, tmp_path):
    """Every byte of the file that can reach the reader is covered by some checksum."""
    path, _ = written
    data, whole = path.read_bytes(), file.read(path)
    spoilt, harmless = tmp_path / "spoilt.h5", 0
    places = np.random.default_rng(0).permutation(len(data))[:500]
    for at in map(int, places):
        spoilt.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            read = file.read(spoilt)
        except InfrastructureError as error:
            assert str(spoilt) in str(error)
        else:
            harmless += 1  # unused space between HDF5's structures
            assert read.round == whole.round
            assert all(getattr(read, name).tobytes() == getattr(whole, name).tobytes() for name in ARRAYS)
    assert harmless < 0.75 * len(places)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_changed_dataset_is_named(written, tmp_path, name):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(written[0].read_bytes())
    with h5py.File(copy, "r+") as f:
        where = f[name].id.get_offset()
    data = bytearray(copy.read_bytes())
    data[where + 1] ^= 1
    copy.write_bytes(data)
    where = r"attempt 0 at täsk-1: wrong checksum of its tokens" if name in TOKENS else f"the checksum of '{name}'"
    for reader in (file.read, file.verify):
        with pytest.raises(InfrastructureError, match=rf"copy\.h5: {where}"):
            reader(copy)
    if name in TOKENS:
        stored = file.open_(copy)
        stored.read([1])  # of another episode
        with pytest.raises(InfrastructureError, match="wrong checksum"):
            stored.read([0])


def test_a_truncated_missing_or_foreign_file_is_named(written, tmp_path):
    data = written[0].read_bytes()
    spoilt = tmp_path / "spoilt.h5"
    for length in [0, 1, 100, *range(500, len(data), 997), len(data) - 1]:
        spoilt.write_bytes(data[:length])
        with pytest.raises(InfrastructureError, match=r"spoilt\.h5 cannot be read"):
            file.read(spoilt)
    with pytest.raises(InfrastructureError, match=r"nowhere\.h5 cannot be read"):
        file.read(tmp_path / "nowhere.h5")
    newer = tmp_path / "newer.h5"
    newer.write_bytes(data)
    with h5py.File(newer, "r+") as f:
        f.attrs["format_version"] = 5
    with pytest.raises(InfrastructureError, match=r"newer\.h5: format 5, this reads 3 and 4"):
        file.read(newer)


def test_what_does_not_fit_together_is_not_written(written, tmp_path, episode):
    good = file.read(written[0])
    for name, array in {
        "offsets": good.offsets[:-1],
        "mask": good.mask[1:],
        "contexts": good.contexts[1:],
        "context_offsets": good.context_offsets[1:],
        "tokens": good.tokens.astype(np.int64),
        "logprobs": good.logprobs.astype(np.float64),
    }.items():
        with pytest.raises(InfrastructureError, match="do not fit together"):
            file.write(tmp_path / "bad.h5", replace(good, **{name: array}))
    for bad in (
        episode(mask=[1]),
        episode(task="x" * 129),
        episode(contexts=[]),
        episode(contexts=[Context("a", 1)]),
        episode(contexts=[Context("a"), Context("b", 21)]),
        episode(contexts=[Context("a" * 33)]),
    ):
        with pytest.raises(InfrastructureError, match="episode "):
            arrays.from_episodes(1, [bad])
    assert list(tmp_path.iterdir()) == []


def test_the_documented_examples_run(written):
    code, check = re.findall(r"```python\n(.*?)```", FORMAT.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=written[0].parent, capture_output=True, text=True, check=True
    )
    checked = subprocess.run([sys.executable, "-c", check], cwd=written[0].parent, capture_output=True, check=False)
    assert (checked.stdout, checked.stderr) == (b"sound\n", b"")
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["täsk-1", "0", "answered"],
        ["täsk-1", "1", "infra_error"],
        ["z", "0", "answered"],
    ]
    assert lines[0].split()[4:6] == ["20", "30"]


def test_every_column_is_documented(written):
    text = FORMAT.read_text()
    assert all(
        f"`{name}`" in text for name in (*ARRAYS, *arrays.COLUMNS.names, *arrays.CONTEXT.names, *arrays.SEQUENCE.names)
    )
