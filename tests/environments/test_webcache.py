"""The folder of answers that many workers share."""

import json
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


def test_what_was_kept_first_counts_whatever_its_file_is_called(tmp_path: Path) -> None:
    first, second = (WebCache(tmp_path, "record", owner) for owner in ("z", "a"))
    key = key_of("fetch", {"url": "x"})
    assert first.put(key, Answer("one", False), "fetch", {"url": "x"}).text == "one"
    assert second.put(key, Answer("two", False), "fetch", {"url": "x"}).text == "one"
    late = {"key": key, "at": 0.5, "text": "earlier", "is_error": False, "files": []}
    with open(tmp_path / "m.jsonl", "w") as file:  # another node's, that became visible only now
        file.write(json.dumps(late) + "\n")
    assert WebCache(tmp_path, "strict", "b").get(key) == Answer("earlier", False)
