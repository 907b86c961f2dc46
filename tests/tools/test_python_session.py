"""`python` that remembers, through a real client, in every sandbox that works here."""

import asyncio
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools
GONE = "[its variables are gone]"


def play(sandbox: Sandbox, root: Path, *codes: str, also: str = "files", seconds: float = 10.0) -> list[Observation]:
    servers = ["python_session", also]
    config = schema.Environment(servers=servers, slots=1, call_seconds=seconds)

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, sandbox, None, root) as pool, pool.episode() as environment:
            seen = []
            for code in codes:
                tool, told = ("terminal", "command") if code.startswith("$ ") else ("python", "code")
                seen.append(await environment.call(tool, {told: code.removeprefix("$ ")}))
            return seen

    return asyncio.run(story())


def test_variables_and_modules_stay_also_after_an_error(sandbox: Sandbox, tmp_path: Path) -> None:
    codes = ["import math\nx = 5", "def f():\n    return math.factorial(x)\nf()", "1/0", "print('once')\nf()", "f()"]
    seen = play(sandbox, tmp_path, *codes)
    told = ["(no output)", "120", "ZeroDivisionError: division by zero", "once", "120"]
    assert [one.text for one in seen] == told
    assert [one.is_error for one in seen] == [False, False, True, False, False]


def test_each_call_has_its_own_output_and_no_input(sandbox: Sandbox, tmp_path: Path) -> None:
    loud = "import os, sys\nos.system('echo from a shell'); print('é'); sys.stderr.write('aside')\nNone"
    seen = play(
        sandbox, tmp_path, loud, "input()", "import sys\nsys.exit('so be it')", "sys.exit(0)", "os.getpid() > 0"
    )
    assert [one.text for one in seen] == [
        "from a shell\né",
        "EOFError: EOF when reading a line",
        "so be it",
        "(no output)",
        "True",
    ]


def test_what_runs_too_long_is_interrupted_and_variables_stay(sandbox: Sandbox, tmp_path: Path) -> None:
    codes = ["x = 7", "import time\nprint('began', flush=True)\ntime.sleep(60)", "x"]
    seen = play(sandbox, tmp_path, *codes, seconds=8.0)
    assert [one.text for one in seen] == ["(no output)", "began\nstopped: ran longer than 6.4 s", "7"]
    assert seen[1].is_error


STUBBORN = "import signal\nx = 1\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (STUBBORN, "stopped: ran longer than 6.4 s"),
        ("x = 1\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("x = 1\nimport os\nos._exit(3)", "exit status 3"),
    ],
)
def test_an_interpreter_that_ends_is_replaced_and_that_is_said(
    sandbox: Sandbox, tmp_path: Path, code: str, told: str
) -> None:
    seen = play(sandbox, tmp_path, code, "x", "2 + 2", seconds=8.0)
    assert seen[0].is_error and seen[0].text == f"{told}\n{GONE}"
    assert "NameError" in seen[1].text
    assert seen[2].text == "4"


def test_a_command_beside_it_ends_no_session(sandbox: Sandbox, tmp_path: Path) -> None:
    seen = play(sandbox, tmp_path, "x = 3", "$ sleep 30 & echo gone", "x", also="terminal")
    assert [one.text for one in seen] == ["(no output)", "gone", "3"]


def test_one_episode_knows_nothing_of_the_other(sandbox: Sandbox, tmp_path: Path) -> None:
    config = schema.Environment(servers=["python_session"], slots=1)

    async def story() -> list[str]:
        seen = []
        async with EnvironmentPool(config, sandbox, None, tmp_path) as pool:
            for code in ("x = 1\nx", "x"):
                async with pool.episode() as environment:
                    seen.append((await environment.call("python", {"code": code})).text)
        return seen

    first, second = asyncio.run(story())
    assert first == "1" and "NameError" in second
