"""The copies of a server that run the code of `python`."""

import asyncio
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, SubprocessSandbox

pytestmark = pytest.mark.tools
KILLED_IT = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"
# what could outlive a call: code that no signal of its killed parent reaches, and a sister of the code's own process
LOCK = "import fcntl\nfile = open('lock', 'a')\nfcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"  # of the process
LEFT = LOCK + "import ctypes, os, time\nctypes.CDLL(None).prctl(1, 0)\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
SISTER = f"""
{LOCK}
import ctypes, os, time
CLONE_PARENT, SIGCHLD = 0x8000, 17
if ctypes.CDLL(None).syscall(56, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0:
    os.setsid()
    open("began", "w").close()
    time.sleep(60)
while not os.path.exists("began"):
    time.sleep(0.01)
"""


def play(sandbox: Sandbox, root: Path, *codes: str) -> list[Observation]:
    config = schema.Environment(servers=["python"], slots=1, call_seconds=20.0)

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, sandbox, None, root) as pool, pool.episode() as environment:
            return [await environment.call("python", {"code": code}) for code in codes]

    return asyncio.run(story())


def test_a_call_finds_nothing_of_an_earlier_one(sandbox: Sandbox, tmp_path: Path) -> None:
    changes = "import builtins, os, sys\nbuiltins.left = sys.left = 1\nos.environ['LEFT'] = 'x'\nsys.path.clear()"
    looks = "import os, sys\nhasattr(sys, 'left'), 'left' in globals(), os.environ.get('LEFT'), len(sys.path) > 2"
    seen = play(sandbox, tmp_path, changes, looks, "left", "__name__", "import json, pandas\njson.__name__")
    wanted = ["(no output)", "(False, False, None, True)", "NameError: name 'left' is not defined", "'__main__'"]
    assert [one.text for one in seen] == [*wanted, "'json'"]


def test_a_call_has_nothing_of_its_server(sandbox: Sandbox, tmp_path: Path) -> None:
    files = "import os\nsorted(os.listdir('/proc/self/fd'))"  # the last is that of the list
    modules = "import sys\n[name for name in sys.modules if 'aworld' in name], sys.argv"
    seen = play(sandbox, tmp_path, files, modules, "import sys\nsys.exit('so be it')", "import sys\nsys.exit(3)")
    assert [one.text for one in seen] == ["['0', '1', '2', '3']", "([], [''])", "so be it", "exit status 3"]


def test_what_code_leaves_for_its_end_is_done(sandbox: Sandbox, tmp_path: Path) -> None:
    late = "import atexit, threading, time\natexit.register(print, 'third')\nprint('first')\n"
    late += "threading.Thread(target=lambda: (time.sleep(0.2), print('second'))).start()"
    assert play(sandbox, tmp_path, late)[0].text == "first\nsecond\nthird"


def test_nothing_is_lost_that_code_leaves_open(sandbox: Sandbox, tmp_path: Path) -> None:
    codes = [
        "file = open('kept', 'w')\nfile.write('written')\n1 / 0",
        "open('kept').read()",
        "import sys\nsys.stdout = sys.__stdout__\nprint('back')",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('wrapped')",
    ]
    seen = [one.text for one in play(sandbox, tmp_path, *codes)]
    assert seen == ["ZeroDivisionError: division by zero", "'written'", "back", "wrapped"]


def test_code_that_kills_the_server_costs_its_own_call_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    seen = play(sandbox, tmp_path, "1", KILLED_IT, "2", KILLED_IT, KILLED_IT, "3")
    assert [one.text for one in seen if not one.is_error] == ["1", "2", "3"]
    assert {one.text for one in seen if one.is_error} == {"python failed: the server was stopped: it ended"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is that of x86-64")
@pytest.mark.parametrize("code", [LEFT, SISTER])
def test_no_process_of_a_call_is_left_for_the_next(sandbox: Sandbox, code: str, tmp_path: Path) -> None:
    assert play(sandbox, tmp_path, code, LOCK)[1].text == "(no output)"


def test_no_code_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    look = tmp_path / "look"
    code = f"import os, pathlib, time\npathlib.Path({str(look)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    config = schema.Environment(servers=["python"], slots=1, call_seconds=50.0)

    async def story() -> Observation:
        async with EnvironmentPool(config, SubprocessSandbox(), None, tmp_path) as pool, pool.episode() as environment:
            call = asyncio.create_task(environment.call("python", {"code": code}))
            while not (look.exists() and look.read_text()):
                await asyncio.sleep(0.05)
            line_of(int(look.read_text()))[1].kill()
            return await call

    assert asyncio.run(story()).is_error
    give_up = time.monotonic() + 10
    while psutil.pid_exists(int(look.read_text())) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(look.read_text()))


STOPPED = """
from aworld.tools.common import execute
from aworld.tools.python import start

execute.adopt_orphans()
for turn in range(40):
    print(execute.run_process(start, "import time; time.sleep(60)", (turn + 1) * 0.001).text)
    print(execute.run_process(start, f"{turn} + 100", 50.0).text)
"""


def test_a_call_after_one_that_was_stopped_has_its_own_result() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=40, check=False)
    wanted = [
        line for turn in range(40) for line in (f"stopped: ran longer than {(turn + 1) * 0.001:g} s", f"{turn + 100}")
    ]
    assert done.stdout.splitlines() == wanted, done.stderr


def line_of(pid: int) -> list[psutil.Process]:
    """The process, its parent, and so on."""

    def above() -> Iterator[psutil.Process]:
        one: psutil.Process | None = psutil.Process(pid)
        while one is not None and one.pid != os.getpid():
            yield one
            one = one.parent()

    return list(above())
