"""The folder of answers that many workers share."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aworld.environments.webcache import Answer, WebCache, key_of

pytestmark = pytest.mark.unit


def test_threads_that_look_at_once_all_find(tmp_path: Path) -> None:
    """A large file takes a while to read: whoever comes meanwhile waits for it."""
    keys = [f"{number:064x}" for number in range(2000)]
    rows = [{"key": key, "at": 1.0, "text": "x" * 2000, "is_error": False, "files": []} for key in keys]
    (tmp_path / "worker.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(5):
        cache = WebCache(tmp_path, "strict", "me")
        with ThreadPoolExecutor(8) as threads:
            assert None not in list(threads.map(cache.get, keys[-8:]))


def test_the_same_file_is_kept_by_all_who_fetch_it_at_once(tmp_path: Path) -> None:
    cache = WebCache(tmp_path / "cache", "record", "me")
    files = [tmp_path / str(number) for number in range(8)]
    for file in files:
        file.write_bytes(b"x" * 5_000_000)
    with ThreadPoolExecutor(8) as threads:
        (digest,) = set(threads.map(cache.put_file, files))
    assert digest and cache.file(digest).read_bytes() == files[0].read_bytes()


def test_only_plain_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)  # or there would be an end to read to
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    cache = WebCache(tmp_path / "cache", "record", "me")
    assert [cache.put_file(tmp_path / name) for name in ("folder", "link", "pipe", "none")] == [None] * 4
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    os.close(held)


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    row = json.dumps({"key": "k", "at": 1.0, "text": "ä", "is_error": False, "files": []}, ensure_ascii=False).encode()
    path = tmp_path / "w.jsonl"
    path.write_bytes(b"not json\n" + row[:-5])
    cache = WebCache(tmp_path, "strict", "me")
    assert cache.get("k") is None
    with open(path, "ab") as file:
        file.write(row[-5:] + b"\n")
    assert cache.get("k") == Answer("ä", False)


def test_what_was_kept_first_counts_whatever_its_file_is_called(tmp_path: Path) -> None:
    first, second = (WebCache(tmp_path, "record", owner) for owner in ("z", "a"))
    key = key_of("fetch", {"url": "x"})
    assert first.put(key, Answer("one", False), "fetch", {"url": "x"}).text == "one"
    assert second.put(key, Answer("two", False), "fetch", {"url": "x"}).text == "one"
    late = {"key": key, "at": 0.5, "text": "earlier", "is_error": False, "files": []}
    with open(tmp_path / "m.jsonl", "w") as file:  # another node's, that became visible only now
        file.write(json.dumps(late) + "\n")
    assert WebCache(tmp_path, "strict", "b").get(key) == Answer("earlier", False)
