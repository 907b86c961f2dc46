"""Files that untrusted code wrote, opened while it does its worst."""

import hashlib
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aworld.tools.common import opened
from aworld.tools.common.opened import NoFileError

pytestmark = pytest.mark.unit
SECRET = b"nobody's business"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An episode's folder, beside one that is none of its business."""
    folder = tmp_path / "episode"
    (folder / "in").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"A")
    (folder / "in" / "b.txt").write_bytes(b"B")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "b.txt").write_bytes(SECRET)
    return folder


def test_plain_files_are_read_by_any_of_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "./a.txt", "in/../a.txt", "/episode/a.txt", str(folder / "a.txt")):
        assert opened.read(name, folder) == b"A"
    assert opened.read("in//b.txt", folder) == opened.read("/episode/in/b.txt", folder) == b"B"
    assert opened.digest("a.txt", folder) == hashlib.sha256(b"A").hexdigest()
    monkeypatch.chdir(folder)
    assert opened.read("in/b.txt") == b"B"


def test_what_is_no_file_of_the_folder_is_not_opened(folder: Path) -> None:
    home = folder.parent / "home"
    (folder / "link").symlink_to(home / "b.txt")
    (folder / "inner").symlink_to("a.txt")
    (folder / "dir").symlink_to(home)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket"))
        names = ["link", "inner", "dir/b.txt", "in/../dir/b.txt", "loop", "pipe", "socket", "in", ".", "", "none"]
        outside = ["../home/b.txt", str(home / "b.txt"), "/etc/passwd", "/dev/zero", "/proc/self/environ"]
        for name in [*names, *outside, "a.txt\0", "\ud800", "x" * 5000, "d/" * 3000]:
            with pytest.raises(NoFileError) as refused:
                opened.read(name, folder)
            assert "\n" not in str(refused.value) and len(str(refused.value)) < 250, name
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in names * 5:
        with pytest.raises(NoFileError):
            opened.read(name, folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_may_not_be_too_large(folder: Path) -> None:
    with open(folder / "huge", "wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(NoFileError, match="larger than 25 MB"):
        opened.read("huge", folder)


@pytest.mark.parametrize("name", ["swapped", "dir/b.txt"])
def test_a_swap_between_a_look_and_the_opening_gains_nothing(name: str, folder: Path) -> None:
    """Code in the sandbox puts links to a foreign file, or its folder, in the place of its own as fast as it can."""
    (folder / "plain").mkdir()
    (folder / "plain" / "b.txt").write_bytes(b"B")
    done = threading.Event()
    foreign = folder.parent / "home" / ("b.txt" if name == "swapped" else "")

    def swap() -> None:
        at = folder / name.split("/")[0]
        while not done.is_set():
            (folder / "new").symlink_to(foreign)
            os.replace(folder / "new", at)
            at.unlink()
            if name == "swapped":
                at.write_bytes(b"B")
            else:
                (folder / "plain").rename(at)
                at.rename(folder / "plain")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen: set[bytes] = set()
        tries = 0
        while tries < 5000 or (b"refused" not in seen and tries < 1_000_000):
            tries += 1
            try:
                seen.add(opened.read(name, folder))
            except NoFileError:
                seen.add(b"refused")
    finally:
        done.set()
        thread.join()
    assert SECRET not in seen and b"refused" in seen


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a.txt", "in", "b.txt", "..", ".", "", "/", "dir", "home", "episode"]), max_size=7))
def test_no_words_lead_out(folder: Path, words: list[str]) -> None:
    if not (folder / "dir").is_symlink():
        (folder / "dir").symlink_to(folder.parent / "home")
    with suppress(NoFileError):
        assert opened.read("/".join(words), folder) in (b"A", b"B")
