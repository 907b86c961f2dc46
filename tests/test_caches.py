"""Compiled code: in a folder of the node, and in the run directory for the next node."""

import multiprocessing
import os
import tarfile
from pathlib import Path

import pytest

from aworld.caches import VARIABLES, folder_of, keep, key, warm

pytestmark = pytest.mark.unit


def test_the_next_node_begins_with_what_the_first_one_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:  # torch sets one of them for its own process
        monkeypatch.delenv(variable, raising=False)
    archive, first, second = tmp_path / "caches" / "vllm-1.tar", tmp_path / "node-1", tmp_path / "node-2"
    variables = warm(first, archive)
    assert variables.keys() == VARIABLES.keys() and all(Path(path).is_dir() for path in variables.values())
    keep(first, archive)
    assert not archive.exists()  # nothing was compiled
    kernel = Path(variables["TRITON_CACHE_DIR"]) / "ab" / "kernel.cubin"
    kernel.parent.mkdir()
    kernel.write_bytes(b"code")
    keep(first, archive)
    written = archive.stat().st_mtime_ns
    kernel.write_bytes(b"newer")
    keep(first, archive)
    assert archive.stat().st_mtime_ns == written  # once per run
    there = warm(second, archive)
    assert (Path(there["TRITON_CACHE_DIR"]) / "ab" / "kernel.cubin").read_bytes() == b"code"
    assert warm(first, archive) == variables and kernel.read_bytes() == b"newer"


def test_workers_that_start_together_find_one_whole_cache(tmp_path: Path) -> None:
    archive = tmp_path / "cache.tar"
    source = tmp_path / "source"
    (source / "vllm").mkdir(parents=True)
    for number in range(200):
        (source / "vllm" / str(number)).write_bytes(os.urandom(1000))
    keep(source, archive)
    node = tmp_path / "node"

    def start() -> None:
        place = warm(node, archive)["VLLM_CACHE_ROOT"]
        assert len(list(Path(place).iterdir())) == 200

    workers = [multiprocessing.get_context("fork").Process(target=start) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_torn_archive_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "cache.tar"
    archive.write_bytes(b"\1" * 2000)
    warm(tmp_path / "node", archive)
    assert f"warning: {archive} cannot be unpacked" in capsys.readouterr().err
    outside = tmp_path / "evil.tar"
    with tarfile.open(outside, "w") as tar:
        tar.add(archive, "../../escaped")
    warm(tmp_path / "other", outside)
    assert "cannot be unpacked" in capsys.readouterr().err and not list(tmp_path.rglob("escaped"))


def test_other_versions_models_and_images_have_caches_of_their_own(tmp_path: Path) -> None:
    image = tmp_path / "vllm.sif"
    image.write_text("one")
    names = [
        key("vllm", "", ("numpy",), "model"),
        key("vllm", "", ("numpy",), "other"),
        key("vllm", "", ("h5py",), "m"),
    ]
    names += [key("vllm", str(image), (), "model")]
    image.write_text("another")
    names += [key("vllm", str(image), (), "model")]
    assert len(set(names)) == 5 and names[0] == key("vllm", "", ("numpy",), "model")


def test_a_folder_that_others_may_write_to_holds_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = folder_of("vllm-1", str(tmp_path / "scratch"))
    assert found and found.parent.stat().st_mode & 0o077 == 0
    found.parent.chmod(0o777)
    assert folder_of("vllm-1", str(tmp_path / "scratch")) is None
    assert "warning: no folder for compiled code" in capsys.readouterr().err
