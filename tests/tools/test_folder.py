"""The working folder, against zipfile and tarfile used by hand; archives that want out of it."""

import io
import os
import resource
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aworld.tools import folder

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    return tmp_path / "scratch"


def call(tool: Any, *words: str) -> tuple[str, bool]:
    result = tool(*words)
    return result.text, bool(result.is_error)


def test_files_are_written_and_listed(scratch: Path) -> None:
    assert call(folder.list_files) == ("(no files)", False)
    assert call(folder.write_file, "deep/er/é.txt", "zwölf") == ("wrote 6 bytes to deep/er/é.txt", False)
    assert (scratch / "deep" / "er" / "é.txt").read_text() == "zwölf"
    (scratch / "link").symlink_to("/etc/passwd")
    assert call(folder.list_files) == ("bytes\tname\n6\tdeep/er/é.txt", False)
    assert call(folder.list_files, "deep/er/é.txt")[1] and call(folder.list_files, "no")[1]


@pytest.mark.parametrize("path", ["../out", "/tmp/out", "link/out", "a/../../out"])
def test_no_path_leads_out(path: str, scratch: Path) -> None:
    (scratch / "link").symlink_to(scratch.parent)
    for tool, words in (
        (folder.write_file, (path, "x")),
        (folder.list_files, (path,)),
        (folder.unpack, (path,)),
        (folder.unpack, ("a.zip", path)),
        (folder.pack, (".", path)),
    ):
        said, is_error = call(tool, *words)
        assert is_error and "outside the working folder" in said
    assert sorted(p.name for p in scratch.parent.iterdir()) == ["scratch"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_what_is_packed_is_what_the_usual_programs_read(name: str, scratch: Path) -> None:
    call(folder.write_file, "data/one.txt", "1")
    call(folder.write_file, "data/two.txt", "2")
    assert not call(folder.pack, "data", name)[1]
    if name == "a.zip":
        with zipfile.ZipFile(scratch / name) as archive:
            assert archive.read("data/two.txt") == b"2"
    else:
        listed = subprocess.run(["tar", "tf", name], capture_output=True, text=True, check=True).stdout
        assert "data/two.txt" in listed
    said, is_error = call(folder.unpack, name, "again")
    assert not is_error and "data/one.txt" in said
    assert (scratch / "again" / "data" / "one.txt").read_text() == "1"


@pytest.mark.parametrize("name", ["all.zip", "all.tar", "deep/all.tgz"])
def test_a_folder_is_packed_into_itself_as_often_as_one_likes(name: str, scratch: Path) -> None:
    (scratch / "one.txt").write_text("1")
    (scratch / "deep").mkdir()
    for _ in range(2):
        said, is_error = call(folder.pack, ".", name)
        assert (said, is_error) == (f"{(scratch / name).stat().st_size} bytes in {name}", False)
        assert call(folder.unpack, name, "again")[0].count(".txt") == 1
        assert (scratch / "again" / "scratch" / "one.txt").read_text() == "1"
        assert not (scratch / "again" / "scratch" / name).exists()
        subprocess.run(["rm", "-r", "again"], check=True)
    assert sorted(p.name for p in scratch.rglob("*")) == sorted(["one.txt", "deep", Path(name).name])


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_an_archive_that_becomes_too_large_leaves_what_was_there(name: str, scratch: Path) -> None:
    (scratch / "noise").write_bytes(os.urandom(200_000))
    (scratch / name).write_text("mine")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        said, is_error = call(folder.pack, "noise", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert is_error and "File too large" in said and "\n" not in said
    assert sorted(p.name for p in scratch.iterdir()) == [name, "noise"] and (scratch / name).read_text() == "mine"


def test_what_was_made_is_named(scratch: Path) -> None:
    call(folder.write_file, "t.txt", "x")
    size = call(folder.pack, "t.txt", "data.gz")[0].removesuffix(" bytes in data.tar.gz")
    assert (scratch / "data.tar.gz").stat().st_size == int(size) and not (scratch / "data.gz").exists()
    assert call(folder.unpack, "data.tar.gz", "again") == ("1 entries: t.txt", False)


def test_what_is_no_archive_is_not_made(scratch: Path) -> None:
    call(folder.write_file, "t.txt", "x")
    for name in ("data.rar", "data"):
        assert call(folder.pack, "t.txt", name) == (f"{name} is none of .zip, .tar, .tar.gz, .tgz", True)
    assert call(folder.pack, "no", "a.zip") == ("no 'no'", True)
    call(folder.write_file, "a.zip", "x")
    assert call(folder.pack, "a.zip", "a.zip") == ("a.zip cannot hold itself", True)
    assert sorted(p.name for p in scratch.iterdir()) == ["a.zip", "t.txt"]


def test_archives_that_want_out_stay_in(scratch: Path) -> None:
    with zipfile.ZipFile(scratch / "slip.zip", "w") as archive:
        archive.writestr("../../out.txt", "x")
    assert not call(folder.unpack, "slip.zip")[1]
    assert (scratch / "out.txt").exists() and not (scratch.parent / "out.txt").exists()
    for name, info in (("../out.txt", tarfile.TarInfo("../out.txt")), ("l", tarfile.TarInfo("l"))):
        if name == "l":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        with tarfile.open(scratch / "slip.tar", "w") as tar:
            tar.addfile(info, io.BytesIO())
        said, is_error = call(folder.unpack, "slip.tar")
        assert is_error and said.startswith("cannot unpack 'slip.tar': ")
    assert sorted(p.name for p in scratch.parent.iterdir()) == ["scratch"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_damaged_archive_is_one_line(name: str, scratch: Path) -> None:
    (scratch / name).write_bytes(b"PK\x03\x04 is how it begins")
    said, is_error = call(folder.unpack, name)
    assert is_error and "\n" not in said
    assert call(folder.unpack, "a.txt") == ("no file 'a.txt'", True)
    call(folder.write_file, "a.txt", "x")
    assert "is none of" in call(folder.unpack, "a.txt")[0]
