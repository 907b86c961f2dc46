import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aworld import containers
from aworld.config import Site
from aworld.containers import container_binds, container_command, linked_folders, sha256, staged_image
from aworld.errors import InputError
from aworld.rundir import RunDir

CLUSTER = pytest.mark.cluster
PYTHON = [sys.executable, "-c"]


@pytest.fixture
def site() -> Site:
    return Site("test", bind_python=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file to be staged; what is in it does not matter."""
    path = tmp_path / "shared" / "system.sif"
    path.parent.mkdir()
    path.write_bytes(os.urandom(1 << 24))
    return path


@pytest.mark.unit
def test_without_an_image_a_command_is_what_it_was(site: Site) -> None:
    assert container_command(site, "", ["python", "-m", "aworld"], [Path("/a")]) == ["python", "-m", "aworld"]


@pytest.fixture
def apptainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PATH at least by name: a command line is only made here."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/false")
    (tmp_path / "bin" / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


@pytest.mark.unit
def test_without_apptainer_an_image_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"/i/vllm.sif is to be run: no apptainer on PATH; load its module"):
        container_command(Site("test"), "/i/vllm.sif", ["true"], [])


@pytest.mark.unit
@pytest.mark.parametrize("there", [True, False])
def test_a_container_gets_the_gpus_where_their_driver_is(
    there: bool, apptainer: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "nvidiactl"
    if there:
        device.touch()
    monkeypatch.setattr(containers, "GPU_DRIVER", device)
    assert ("--nv" in container_command(Site("test"), "/i/vllm.sif", ["true"], [])) is there


@pytest.mark.unit
def test_an_image_with_its_own_python_runs_that(apptainer: None) -> None:
    command = container_command(Site("test", binds=["/data:/data:ro"]), "/i/vllm.sif", [sys.executable, "-m", "x"], [])
    at = command.index("/i/vllm.sif")
    deaf = ["env", "--ignore-signal=USR1", "--ignore-signal=USR2"]
    assert command[at + 1 :] == [*deaf, f"HOME=/tmp/aworld-{os.getuid()}", "python3", "-m", "x"]
    assert "/data:/data:ro" in command[:at]
    assert sys.prefix not in command


@pytest.mark.unit
def test_a_folder_that_cannot_be_bound_is_one_line(apptainer: None, site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a:b holds a colon or a comma"):
        container_command(site, "/i/vllm.sif", ["true"], [tmp_path / "a:b"])


@pytest.mark.unit
def test_the_model_that_a_run_links_to_is_among_its_folders(tmp_path: Path) -> None:
    run, model, blobs = RunDir(tmp_path / "run"), tmp_path / "model", tmp_path / "blobs"
    for folder in (run.base, model, blobs):
        folder.mkdir(parents=True)
    (blobs / "abc").write_text("{}")
    (model / "config.json").symlink_to(blobs / "abc")  # as in a Hugging Face cache
    (model / "tokenizer.json").write_text("{}")
    for file in model.iterdir():
        (run.base / file.name).symlink_to(file)
    assert container_binds(run) == [run.root, blobs, model]
    assert linked_folders(model) == [blobs]  # as a teacher's folder


@pytest.mark.cluster
def test_a_signal_to_the_whole_job_does_not_end_a_program_inside(site: Site, environment_image: Path) -> None:
    code = "import time; print('began', flush=True); time.sleep(1); print('ended')"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])  # as in whoever has a `Notice`
    try:
        argv = container_command(site, str(environment_image), [*PYTHON, code], [])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout and program.stdout.readline() == "began\n"
            for process in psutil.Process(program.pid).children(recursive=True):
                process.send_signal(signal.SIGUSR2)
            assert program.stdout.read() == "ended\n"
        assert program.returncode == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.cluster
def test_a_program_sees_its_folders_at_their_paths(site: Site, environment_image: Path, tmp_path: Path) -> None:
    real, scratch = tmp_path / "real", tmp_path / "scratch"
    for folder in (real, scratch, tmp_path / "other"):
        folder.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / "given").write_text("given")
    site.scratch = str(scratch)
    home = Path.home() / f".aworld-test-{os.getpid()}"
    home.write_text("private")
    code = f"""
import json, os, sys, aworld.containers, h5py, ssl
print(json.dumps([
    open({str(tmp_path / "link" / "given")!r}).read(),
    os.path.exists({str(real / "given")!r}),
    os.access({str(scratch)!r}, os.W_OK),
    os.path.exists({str(home)!r}),
    sys.executable,
    os.path.expanduser("~"),
    os.environ["NCCL_DEBUG"],
]))
"""
    command = container_command(site, str(environment_image), [*PYTHON, code], [tmp_path / "link"])
    environment = dict(os.environ, NCCL_DEBUG="WARN")
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        home.unlink()
    assert done.returncode == 0, done.stderr
    expected = ["given", True, True, False, sys.executable, f"/tmp/aworld-{os.getuid()}", "WARN"]
    assert json.loads(done.stdout) == expected


@pytest.mark.cluster
def test_the_code_in_the_image_is_this_very_code_and_read_only(site: Site, environment_image: Path) -> None:
    code = "import aworld.containers as c; print(open(c.__file__).read(), end=''); open(c.__file__, 'a')"
    command = container_command(site, str(environment_image), [*PYTHON, code], [])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == Path(sys.modules["aworld.containers"].__file__ or "").read_text()
    assert done.returncode and "Read-only file system" in done.stderr


STAGE = "import sys; from aworld.containers import staged_image; print(staged_image(*sys.argv[1:]))"


@pytest.mark.unit
def test_many_processes_make_one_whole_copy(image: Path, tmp_path: Path) -> None:
    words = [*PYTHON, STAGE, str(image), str(tmp_path / "scratch")]
    several = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    copies = {process.communicate()[0].strip() for process in several}
    assert len(copies) == 1
    copy = Path(copies.pop())
    assert copy.is_relative_to(tmp_path / "scratch") and copy.read_bytes() == image.read_bytes()
    assert [path.name for path in copy.parent.glob("*.sif*")] == [copy.name]


@pytest.mark.unit
def test_a_new_image_is_a_new_copy(image: Path, tmp_path: Path) -> None:
    first = staged_image(str(image), str(tmp_path))
    assert staged_image(str(image), str(tmp_path)) == first
    written = Path(first).stat().st_mtime_ns
    image.write_bytes(image.read_bytes()[::-1])
    second = staged_image(str(image), str(tmp_path))
    assert second != first and Path(second).read_bytes() == image.read_bytes()
    assert Path(first).stat().st_mtime_ns == written


@pytest.mark.unit
def test_a_copy_torn_by_a_kill_is_never_used(image: Path, tmp_path: Path) -> None:
    mortal = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); "
    half = [f"--fsize={1 << 23}", "--core=0"]  # a write beyond it kills
    words = ["prlimit", *half, "--", *PYTHON, mortal + STAGE, str(image), str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGXFSZ and killed.stdout == b""
    folder = tmp_path / f"aworld-{os.getuid()}" / "images"
    assert not list(folder.glob("[!.]*.sif")) and list(folder.glob(".*.tmp-*"))
    assert sha256(Path(staged_image(str(image), str(tmp_path)))) == sha256(image)
    assert not list(folder.glob(".*.tmp-*"))


@pytest.mark.unit
def test_when_scratch_is_full_the_shared_file_serves(image: Path, tmp_path: Path) -> None:
    limited = ["prlimit", f"--fsize={1 << 20}", "--", *PYTHON, STAGE, str(image), str(tmp_path)]
    done = subprocess.run(limited, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(image)
    assert done.stderr.startswith("warning: ") and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.tmp-*"))


@pytest.mark.unit
@pytest.mark.parametrize("way", ["writable", "link", "another user's"])
def test_a_copy_that_others_could_have_made_is_not_used(
    image: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch, other = tmp_path / "scratch", tmp_path / "other"
    first = Path(staged_image(str(image), str(scratch)))
    owned = scratch / f"aworld-{os.getuid()}"
    if way == "link":
        owned.rename(other)
        owned.symlink_to(other)
    elif way == "writable":
        (owned / "images").chmod(0o777)
    elif os.getuid():
        pytest.skip("only root can give a folder away")
    else:
        os.chown(owned, 12345, 12345)
    first.write_bytes(b"planted")
    assert staged_image(str(image), str(scratch)) == str(image)
    said = capsys.readouterr().err
    assert said.startswith("warning: ") and "another user owns it, or others may write to it" in said


@pytest.mark.unit
def test_sha256_of_an_image(image: Path) -> None:
    assert sha256(image) == hashlib.sha256(image.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"no image at .*gone\.sif; build it with"):
        sha256(image.with_name("gone.sif"))


FOLLOWER = "import sys, time; from aworld.processes import die_with_starter; die_with_starter(); time.sleep(600)"
STARTER = """
import json, os, subprocess, sys
subprocess.Popen(json.loads(sys.argv[1]), env=dict(os.environ, AWORLD_STARTER=str(os.getpid())))
sys.stdin.read()
"""


@pytest.mark.parametrize("in_image", [pytest.param(False, marks=pytest.mark.unit), pytest.param(True, marks=CLUSTER)])
def test_a_program_ends_with_its_starter(in_image: bool, site: Site, request: pytest.FixtureRequest) -> None:
    image = str(request.getfixturevalue("environment_image")) if in_image else ""
    command = container_command(site, image, [*PYTHON, FOLLOWER], [])
    starter = subprocess.Popen([*PYTHON, STARTER, json.dumps(command)], stdin=subprocess.PIPE)
    started: list[psutil.Process] = []
    while not any(p.name().startswith("python") and p.num_threads() > 1 for p in started):
        assert starter.poll() is None
        time.sleep(0.05)
        started = psutil.Process(starter.pid).children(recursive=True)
    starter.kill()
    starter.communicate()
    assert not psutil.wait_procs(started, timeout=60)[1]
