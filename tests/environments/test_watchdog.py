"""What is counted, against what the test itself has started and written."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments import watchdog
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools
LIMITS = schema.Environment(memory_mb=200, scratch_mb=4, processes=5)


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """A parent whose three children share 90 MB with it that they do not write to."""
    code = "import os, time\nx = bytearray(90 << 20)\nfor _ in range(3):\n    if not os.fork(): break\ntime.sleep(600)"
    shell = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", code])
    give_up = time.monotonic() + 60
    while len(psutil.Process(shell.pid).children(recursive=True)) < 4:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    yield shell
    for process in psutil.Process(shell.pid).children(recursive=True):
        process.kill()
    shell.wait()


def test_shared_memory_counts_once(tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    resident = sum(p.memory_info().rss for p in psutil.Process(tree.pid).children(recursive=True))
    assert resident > LIMITS.memory_mb << 20  # so that only a finer look tells that all is well
    assert watchdog.excess([tree.pid], tmp_path, LIMITS) == ""
    tight = schema.Environment(memory_mb=80, scratch_mb=4, processes=5)
    assert watchdog.excess([tree.pid], tmp_path, tight) == "its processes used more than 80 MB of memory"


def test_processes_and_files_are_summed(tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    few = schema.Environment(memory_mb=200, scratch_mb=4, processes=3)
    assert watchdog.excess([tree.pid], tmp_path, few) == "it had more than 3 processes"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "deep" / "er" / str(number)).write_bytes(bytes(1 << 20))
    assert watchdog.excess([tree.pid], tmp_path, LIMITS) == "its files used more than 4 MB"
    (tmp_path / "deep" / "er" / "0").unlink()
    (tmp_path / "deep" / "er" / "1").unlink()
    assert watchdog.excess([tree.pid], tmp_path, LIMITS) == ""
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(1 << 40)  # takes no room
    (tmp_path / "link").symlink_to("/usr")
    assert watchdog.excess([tree.pid], tmp_path, LIMITS) == ""


def test_too_many_files_are_not_counted_to_the_end(tmp_path: Path) -> None:
    for number in range(watchdog.MAX_FILES + 1):
        (tmp_path / str(number)).touch()
    assert watchdog.excess([psutil.Process().pid], tmp_path, schema.Environment()) == "it had more than 20000 files"


@pytest.mark.parametrize("sandbox", ["apptainer"], indirect=True)
def test_files_that_apptainer_keeps_in_memory_count(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> str:
        limits = schema.Environment(servers=["python"], slots=1, scratch_mb=16, call_seconds=60.0)
        async with EnvironmentPool(limits, sandbox, None, tmp_path) as pool, pool.episode() as environment:
            code = "for n in range(4): open(f'/dev/{n}', 'wb').write(bytes(5 << 20))\nimport time; time.sleep(60)"
            answer = await environment.call("python", {"code": code})
            again = await environment.call("python", {"code": "import os; print(os.path.exists('/dev/0'))"})
            assert again.text == "False"  # a new container
            return answer.text

    assert asyncio.run(story()) == "python failed: the server was stopped: its files used more than 16 MB"
