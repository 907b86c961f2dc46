"""Files and folders that are there whole, or not at all."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib

import pytest

from aworld import publish

pytestmark = pytest.mark.unit


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(tmp_path):
    """A writer that publishes for as long as it lives, killed at many moments."""
    path = tmp_path / "value.json"
    program = f"""
        from pathlib import Path
        from aworld.publish import publish_json
        n = 0
        while True:
            n += 1
            publish_json(Path({str(path)!r}), {{"n": [n] * 5000}})
    """
    for moment in range(6):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
        give_up = time.monotonic() + 20
        while not path.exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        for _ in range(100 + 37 * moment):
            values = json.loads(path.read_text())["n"]
            assert len(values) == 5000 and len(set(values)) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        values = json.loads(path.read_text())["n"]
        assert len(values) == 5000 and len(set(values)) == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    publish.publish_text(path, "old")
    with pytest.raises(RuntimeError), publish.publishing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_complete_only_with_all_that_its_mark_vouches_for(tmp_path):
    folder = tmp_path / "policy"
    publish.publish_folder(folder, lambda where: [(where / name).write_text(name * 9) for name in "ab"])
    assert publish.is_complete(folder)
    os.truncate(folder / "b", 4)
    assert not publish.is_complete(folder)
    (folder / "b").unlink()
    assert not publish.is_complete(folder)
    publish.publish_folder(folder, lambda where: (where / "c").write_text("again"))
    assert publish.is_complete(folder)
    assert sorted(p.name for p in folder.iterdir()) == [publish.MARK, "c"]
    (folder / publish.MARK).write_text("{")
    assert not publish.is_complete(folder)


def test_a_complete_folder_is_not_written_again(tmp_path):
    folder = tmp_path / "policy"
    publish.publish_folder(folder, lambda where: (where / "a").write_text("first"))
    publish.publish_folder(folder, lambda where: pytest.fail("called"))
    assert (folder / "a").read_text() == "first"


def test_lines_of_a_torn_log_are_read_up_to_the_tear(tmp_path):
    path = tmp_path / "log.jsonl"
    for n in range(3):
        publish.append_json(path, {"n": n})
    os.truncate(path, path.stat().st_size - 2)
    assert publish.read_jsonl(path) == [{"n": 0}, {"n": 1}]
    assert publish.read_jsonl(tmp_path / "none") == []


def test_files_that_their_writer_has_summed_are_not_read_again(tmp_path):
    folder = tmp_path / "checkpoint"
    temporary = publish.begin_folder(folder)
    (temporary / "summed").write_bytes(b"weights")
    (temporary / "other").write_bytes(b"names")
    opened = []
    sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
    publish.finish_folder(temporary, folder, {"summed": {"size": 7, "crc32": zlib.crc32(b"weights")}})
    assert publish.is_complete(folder) and not any(path.endswith("/summed") for path in opened)
    assert any(path.endswith("/other") for path in opened)
    assert publish.damaged(folder) == []
    (folder / "summed").write_bytes(b"weighty")
    assert publish.damaged(folder) == ["summed"] and publish.damaged(folder, ["other"]) == []
