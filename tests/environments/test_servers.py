"""Each tool through a real client, in every sandbox that works here."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld import config as schema
from aworld.agents.protocols import Environment, Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Contents, Sandbox, SubprocessSandbox
from aworld.environments.toolbox import McpToolbox

pytestmark = pytest.mark.tools
FTS5 = ["AND", "OR", "NOT", "NEAR", "NEAR(", ")", "title", ":", "*", '"', "'", "^", "-", "+", "{", "}", "_", "Arden"]
TABLE = "item,price\napples, 12\npears, 30\n"


class Episode:
    def __init__(self, loop: asyncio.Runner, environment: Environment):
        self.tools = environment.tools
        self.call = lambda name, **arguments: loop.run(environment.call(name, arguments))

    def text(self, name: str, **arguments: str) -> str:
        observation: Observation = self.call(name, **arguments)
        assert not observation.is_error, observation.text
        return observation.text

    def error(self, name: str, **arguments: str) -> str:
        observation: Observation = self.call(name, **arguments)
        assert observation.is_error, observation.text
        return observation.text


@pytest.fixture(scope="module")
def episode(loop: asyncio.Runner, pool: EnvironmentPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Episode]:
    folder = tmp_path_factory.mktemp("attachments")
    (folder / "prices.csv").write_text(TABLE)
    (folder / "secret.bin").write_bytes(bytes(range(256)))
    (folder / "big.txt").write_text("z" * 200_000)
    manager = pool.episode((folder / "prices.csv", folder / "secret.bin", folder / "big.txt"))
    yield Episode(loop, loop.run(manager.__aenter__()))
    loop.run(manager.__aexit__(None, None, None))


def test_specs_are_short(episode: Episode) -> None:
    functions = {tool["function"]["name"]: tool["function"] for tool in episode.tools}
    assert {name: list(f["parameters"]["properties"]) for name, f in functions.items()} == {
        "python": ["code"],
        "read_file": ["path"],
        "search": ["query"],
    }
    assert all(f["parameters"]["properties"].popitem()[1] == {"type": "string"} for f in functions.values())
    assert len(json.dumps(episode.tools)) < 600


@pytest.mark.parametrize(
    "code, printed",
    [
        ("37*48", "1776"),
        ("print(37*48)", "1776"),
        ("x = 5\nx + 1", "6"),
        ("print('once')\n7", "once"),
        ("x = 5", "(no output)"),
        ("None", "(no output)"),
        ("", "(no output)"),
        ("'a'", "'a'"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nA(3)", "A(x=3)"),
        ("import numpy\nint(numpy.arange(4).sum())", "6"),
        ("input", "<built-in function input>"),
        ("print('é', chr(0x1F600))", "é \U0001f600"),
        ("import sys\nsys.exit(0)", "(no output)"),
        ("import os\nos.write(1, bytes([65, 255]))\nNone", "A�"),
    ],
)
def test_python_answers_like_a_repl(episode: Episode, code: str, printed: str) -> None:
    assert episode.text("python", code=code) == printed


@pytest.mark.parametrize(
    "code, told",
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("print('before')\n1/0", "before\nZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError: Expecting property name"),
        ("input()", "EOFError: EOF when reading a line"),
        ("a\0b", "null bytes"),
        ("import sys\nsys.exit('so be it')", "so be it"),
        ("import sys\nsys.exit(4)", "exit status 4"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("def f(): f()\nf()", "RecursionError"),
        ("x = bytearray(4 << 30)", "MemoryError"),
        ("f = open('huge', 'wb')\nf.truncate(100 << 20)", "File too large"),
        ("while True: print('x' * 10_000)", "[cut: "),
    ],
)
def test_python_errors_are_short_results(episode: Episode, code: str, told: str) -> None:
    text = episode.error("python", code=code)
    assert told in text
    assert "Traceback" not in text


def test_code_that_runs_too_long_costs_neither_server_nor_time(episode: Episode) -> None:
    episode.text("python", code="open('mine', 'w').write('kept')")
    text = episode.error("python", code="import time\nprint('started', flush=True)\ntime.sleep(100)")
    assert text == "started\nstopped: ran longer than 3.2 s"  # 0.8 of what a call may take
    assert episode.text("read_file", path="mine") == "kept"


def test_nothing_runs_on_after_a_call(episode: Episode) -> None:
    start = "import subprocess\np = subprocess.Popen(['sleep', '1000'], start_new_session=True)\np.pid"
    pid = int(episode.text("python", code=start))
    look = f"import os\nprint(os.path.exists('/proc/{pid}'))"
    assert episode.text("python", code=look) == "False"


def test_each_call_has_an_interpreter_of_its_own_and_the_scratch_stays(episode: Episode) -> None:
    episode.text("python", code="x = 1\nopen('helper.py', 'w').write('def f(): return 99')")
    assert "NameError" in episode.error("python", code="x")
    assert episode.text("python", code="import helper\nhelper.f()") == "99"


def test_read_file(episode: Episode) -> None:
    assert episode.text("read_file", path="prices.csv") == TABLE
    assert episode.text("read_file", path="./prices.csv") == TABLE
    assert re.match(r"no file 'price.csv'; there are: .*prices.csv", episode.error("read_file", path="price.csv"))
    assert "not text" in episode.error("read_file", path="secret.bin")
    assert "larger than" in episode.error("read_file", path="big.txt")
    episode.text("python", code="import os\nos.mkfifo('pipe')\nos.symlink('/etc/passwd', 'link')")
    assert "no file" in episode.error("read_file", path="pipe")
    assert "no file" in episode.error("read_file", path="link")


def test_search_ranks_and_stays_short(episode: Episode) -> None:
    assert episode.text("search", query="population of Arden") == "Arden population: The population of Arden is 512."
    hits = episode.text("search", query="Belmor").splitlines()
    assert {hit.split(":")[0] for hit in hits} == {"Belmor population", "Belmor area"}
    assert all(len(hit) < 600 for hit in hits)
    assert len(episode.text("search", query="Arden Belmor population zzz").splitlines()) == 3
    assert episode.error("search", query="zzz") == "nothing found"


@settings(max_examples=150, deadline=None)
@given(query=st.one_of(st.text(), st.lists(st.sampled_from(FTS5), max_size=8).map(" ".join)))
def test_any_query_is_answered(query_server: McpToolbox, loop: asyncio.Runner, query: str) -> None:
    observation = loop.run(query_server.call("search", {"query": query}))
    assert observation.text == "nothing found" or ": The " in observation.text
    assert query_server.broken == ""


@settings(max_examples=150, deadline=None)
@given(
    path=st.one_of(
        st.text(),
        st.lists(st.sampled_from(["..", "/", ".", "a.txt", "up", "etc", "passwd", "outside.txt", "~"])).map("/".join),
    )
)
def test_no_path_leaves_the_scratch(query_server: McpToolbox, loop: asyncio.Runner, path: str) -> None:
    """A link `up` points out of the scratch, to where outside.txt lies."""
    observation = loop.run(query_server.call("read_file", {"path": path}))
    assert observation.is_error or observation.text == "inside"
    assert query_server.broken == ""


@pytest.fixture(scope="module")
def query_server(loop: asyncio.Runner, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpToolbox]:
    """Two servers in one process, under the back end that hides nothing: only read_file itself is in the way."""
    folder = tmp_path_factory.mktemp("paths")
    (folder / "outside.txt").write_text("outside")
    scratch = folder / "scratch"
    scratch.mkdir()
    (scratch / "a.txt").write_text("inside")
    (scratch / "up").symlink_to(folder)
    limits = schema.Environment()
    sandbox = SubprocessSandbox()
    argv = [sandbox.python, "-m", "aworld.tools", "files", "search"]
    launch = sandbox.launch(argv, Contents(scratch, limits, env={"AWORLD_CORPUS": str(corpus)}))
    toolbox = loop.run(McpToolbox.start(launch, limits))
    yield toolbox
    loop.run(toolbox.close())


@pytest.mark.parametrize("name, tool", [("python", "python"), ("files", "read_file"), ("search", "search")])
def test_each_server_runs_by_itself(
    loop: asyncio.Runner, sandbox: Sandbox, corpus: Path, tmp_path: Path, name: str, tool: str
) -> None:
    limits = schema.Environment()
    argv = [sandbox.python, "-m", f"aworld.tools.{name}"]
    launch = sandbox.launch(argv, Contents(tmp_path, limits, [corpus], {"AWORLD_CORPUS": str(corpus)}))

    async def tools() -> list[str]:
        toolbox = await McpToolbox.start(launch, limits)
        await toolbox.close()
        return [spec["function"]["name"] for spec in toolbox.tools]

    assert loop.run(tools()) == [tool]
