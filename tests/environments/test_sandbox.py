"""What a contained process can reach, tried from the inside."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aworld import config as schema
from aworld.environments.sandbox import REAPED, ApptainerSandbox, Contents, Launch, Sandbox, _reason, choose, probe
from aworld.environments.toolbox import McpToolbox
from aworld.errors import InfrastructureError, InputError

pytestmark = pytest.mark.tools
NAMESPACES = pytest.mark.parametrize("sandbox", ["bubblewrap", "apptainer"], indirect=True)
LIMITS = schema.Environment(memory_mb=512, scratch_mb=1)


def inside(sandbox: Sandbox, code: str, scratch: Path, read_only: list[Path] | None = None) -> Any:
    """Run code that prints one JSON value."""
    contents = Contents(scratch, LIMITS, read_only or [], {"GIVEN": "yes"})
    launch = sandbox.launch([sandbox.python, "-c", code], contents)
    done = subprocess.run(
        launch.argv,
        env=launch.env,
        cwd=launch.cwd,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_tell")
    yield "hf_do_not_tell"


def test_environment_is_clean(sandbox: Sandbox, tmp_path: Path, secret: str) -> None:
    environment = inside(sandbox, "import json, os; print(json.dumps(dict(os.environ)))", tmp_path)
    assert secret not in environment.values()
    assert environment["GIVEN"] == "yes"
    assert environment["HOME"] != str(Path.home())


def test_limits_hold(sandbox: Sandbox, tmp_path: Path) -> None:
    code = """
import json, resource as r
print(json.dumps([r.getrlimit(x) for x in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_CORE)]))
"""
    assert inside(sandbox, code, tmp_path) == [[512 << 20] * 2, [1 << 20] * 2, [0, 0]]


def test_scratch_is_the_working_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("read me")
    code = "import json; open('made.txt', 'w').write('made'); print(json.dumps(open('given.txt').read()))"
    assert inside(sandbox, code, tmp_path) == "read me"
    assert (tmp_path / "made.txt").read_text() == "made"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given.txt", "made.txt"]


@NAMESPACES
def test_home_and_other_files_are_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    scratch, other, shared = (tmp_path / name for name in ("scratch", "other", "shared"))
    for folder in (scratch, other, shared):
        folder.mkdir()
    (other / "answers.json").write_text("42")
    (shared / "corpus.jsonl").write_text("{}")
    home = Path.home() / f".aworld-test-{os.getpid()}"
    home.write_text("private")
    try:
        paths = [str(home), str(other / "answers.json"), str(shared / "corpus.jsonl")]
        code = f"import json, os; print(json.dumps([os.path.exists(p) for p in {paths}]))"
        assert inside(sandbox, code, scratch, [shared / "corpus.jsonl"]) == [False, False, True]
    finally:
        home.unlink()


@NAMESPACES
def test_network_is_unreachable(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import json, socket
def reach(address):
    try:
        socket.create_connection(address, timeout=2)
    except OSError as reason:
        return reason.strerror
    return "reached"
print(json.dumps([reach(("127.0.0.1", {server.getsockname()[1]})), reach(("1.1.1.1", 53))]))
"""
        local, remote = inside(sandbox, code, tmp_path)
    assert local == "Connection refused"  # a loopback of its own: the port of this machine is not on it
    assert remote == "Network is unreachable"


@NAMESPACES
def test_writes_outside_the_scratch_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    scratch, corpus = tmp_path / "scratch", tmp_path / "corpus.jsonl"
    scratch.mkdir()
    corpus.write_text("{}")
    places = ["/usr/new", "/new", str(corpus), str(Path(os.__file__))]
    if sandbox.name == "bubblewrap":
        places += ["/dev/new", "/etc/new"]
    code = f"""
import json
def write(path):
    try:
        open(path, "a").close()
    except OSError:
        return "refused"
    return "written"
print(json.dumps([write(path) for path in {places}]))
"""
    assert inside(sandbox, code, scratch, [corpus]) == ["refused"] * len(places)


@NAMESPACES
def test_other_processes_are_out_of_sight(sandbox: Sandbox, tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps([p for p in os.listdir('/proc') if p.isdigit()]))"
    assert len(inside(sandbox, code, tmp_path)) < 8


@pytest.mark.parametrize("sandbox", ["bubblewrap"], indirect=True)
def test_bubblewrap_drops_every_capability(sandbox: Sandbox, tmp_path: Path) -> None:
    code = "import json; print(json.dumps([l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')]))"
    held = inside(sandbox, code, tmp_path)
    assert [int(mask, 16) for mask in held] == [0] * 5


def test_apptainer_command_line() -> None:
    sandbox = ApptainerSandbox("/images/environment.sif")
    launch = sandbox.launch(
        ["python3", "-m", "tools"],
        Contents(Path("/node/scratch"), LIMITS, [Path("/data/corpus.jsonl")], {"A": "1,2"}),
    )
    assert launch.argv[: len(REAPED)] == list(REAPED)
    assert " ".join(launch.argv[len(REAPED) :]) == (
        "apptainer --quiet exec --containall --cleanenv --no-home --net --network none "
        "--no-mount bind-paths --no-privs --bind /node/scratch:/episode:rw --bind /node/scratch:/tmp:rw "
        "--bind /node/scratch:/var/tmp:rw --bind /node/scratch:/dev/shm:rw "
        "--bind /data/corpus.jsonl:/data/corpus.jsonl:ro "
        "--pwd /episode /images/environment.sif "
        "env --ignore-signal=USR1 --ignore-signal=USR2 HOME=/episode "
        "prlimit --as=536870912 --fsize=1048576 --core=0 -- python3 -m tools"
    )
    assert launch.env["APPTAINERENV_A"] == "1,2"
    assert {key for key in launch.env if not key.startswith("APPTAINERENV_")} == {"PATH", "HOME"}


def test_a_notice_of_slurm_does_not_make_a_sandbox_unusable(tmp_path: Path) -> None:
    once = "[ -e came ] || { touch came; exit 140; }"  # as apptainer ends by USR2
    assert probe(Launch(["sh", "-c", once], dict(os.environ), tmp_path)).returncode == 0
    assert probe(Launch(["sh", "-c", "exit 140"], dict(os.environ), tmp_path)).returncode == 140


def test_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("subprocess", "").name == "subprocess"
    assert choose("auto", "").name in ("bubblewrap", "subprocess")
    with pytest.raises(InputError, match="valid: auto, apptainer, bubblewrap, subprocess"):
        choose("docker", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose("auto", "").name == "subprocess"
    for name in ("apptainer", "auto"):  # whoever names an image gets no less, unasked
        with pytest.raises(InputError, match=f"site.sandbox={name}: no apptainer on PATH; load its module"):
            choose(name, "/images/environment.sif")
    with pytest.raises(InputError, match="no bwrap on PATH; install bubblewrap"):
        choose("bubblewrap", "")


def test_an_image_of_an_older_aworld_is_to_be_built_anew(tmp_path: Path) -> None:
    python = [sys.executable, "-I", "-S", "-c", "import aworld.tools.common.server"]
    (*_, last_line) = subprocess.run(python, capture_output=True, text=True, check=False).stderr.splitlines()
    assert "build it anew: aworld containers build environment" in _reason("apptainer", last_line)
    assert "apptainer does not work here (no such namespace)" in _reason("apptainer", "no such namespace")


@pytest.mark.parametrize("sandbox", ["apptainer"], indirect=True)
def test_an_image_may_be_named_from_the_current_folder(
    sandbox: ApptainerSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(sandbox.image).parent)
    assert choose("apptainer", Path(sandbox.image).name) == sandbox


@NAMESPACES
def test_what_is_shown_below_tmp_leaves_no_trace_in_the_scratch(sandbox: Sandbox, tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as corpus:
        corpus.write("{}")
        corpus.flush()
        code = f"import json, os; print(json.dumps([open({corpus.name!r}).read(), os.listdir()]))"
        assert inside(sandbox, code, tmp_path, [Path(corpus.name)]) == ["{}", []]
    assert list(tmp_path.iterdir()) == []


@NAMESPACES
def test_what_programs_take_for_temporary_is_the_scratch(sandbox: Sandbox, tmp_path: Path) -> None:
    # but for a place where the Python lies that bubblewrap shows
    places = [at for at in ("/tmp", "/dev/shm") if not sandbox.python.startswith(at)]
    code = f"import json; [open(f'{{at}}/made', 'a').write('x') for at in {places}]; print(json.dumps(1))"
    inside(sandbox, code, tmp_path)
    assert (tmp_path / "made").read_text() == "x" * len(places)


def test_a_sandbox_that_cannot_start_fails_within_the_limit(tmp_path: Path) -> None:
    """The command line of an image that is not there still ends as one clear failure."""
    launch = ApptainerSandbox(str(tmp_path / "no.sif")).launch(["python3"], Contents(tmp_path, LIMITS))
    with pytest.raises(InfrastructureError, match=r"did not start: it ended: .*(no\.sif|apptainer)"):
        asyncio.run(McpToolbox.start(launch, LIMITS))
