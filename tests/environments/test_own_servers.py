"""Tool servers that a user adds: in the sandbox, beside it, and behind an address."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, SubprocessSandbox
from aworld.errors import InfrastructureError, InputError

pytestmark = pytest.mark.tools
SERVER = Path(__file__).with_name("counting_server.py")
KEY = "key-of-the-company"
BESIDE = [sys.executable, str(SERVER)]


def play(
    sandbox: Sandbox, root: Path, own: schema.McpServer, *calls: tuple[str, dict], **values: object
) -> list[Observation]:
    """One episode's calls, with `python` and the user's own server."""
    config = schema.Environment(servers=["python"], mcp={"counting": own}, slots=1, **values)  # type: ignore[arg-type]
    config.call_seconds = 30.0
    root.mkdir(exist_ok=True)

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, sandbox, None, root) as pool, pool.episode() as environment:
            return [await environment.call(name, arguments) for name, arguments in calls]

    return asyncio.run(story())


def texts(seen: list[Observation]) -> list[str]:
    return [one.text for one in seen]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of one that runs, and wants a key."""
    monkeypatch.setenv("COMPANY_KEY", KEY)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*BESIDE, str(port), KEY])
    try:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def test_a_command_in_the_sandbox(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "none of its business")
    own = schema.McpServer(command=[sandbox.python, str(SERVER)])
    write = ("python", {"code": "open('note', 'w').write('x')"})
    calls = [("count", {}), ("count", {"by": 4}), ("secret", {"name": "HF_TOKEN"}), write, ("folder", {})]
    seen = play(sandbox, tmp_path / "root", own, *calls)
    assert texts(seen)[:3] == ["1", "5", "not set"]
    assert seen[4].text.endswith("['note']")  # the same folder
    if sandbox.name != "subprocess":
        assert seen[4].text.startswith("/episode ")


def test_one_that_ends_costs_a_call_and_itself_alone(tmp_path: Path) -> None:
    own = schema.McpServer(command=BESIDE)
    calls = [("count", {}), ("end", {}), ("python", {"code": "1 + 1"}), ("count", {})]
    seen = play(SubprocessSandbox(), tmp_path / "root", own, *calls)
    assert texts(seen) == ["1", "end failed: the server was stopped: it ended", "2", "1"]


def test_one_outside_that_ends_is_told_again_what_it_knew(tmp_path: Path) -> None:
    own = schema.McpServer(command=BESIDE, outside=True)
    seen = play(SubprocessSandbox(), tmp_path / "root", own, ("count", {}), ("end", {}), ("count", {}), ("count", {}))
    assert seen[1].is_error
    assert [seen[0].text, seen[2].text, seen[3].text] == ["1", "2", "3"]


def test_a_command_beside_the_sandbox_gets_the_variables_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COMPANY_KEY", "HF_TOKEN", "AWORLD_SEARCH_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    own = schema.McpServer(command=BESIDE, outside=True, variables=["COMPANY_KEY"], tools=["secret"])
    asked = [("secret", {"name": name}) for name in ("COMPANY_KEY", "HF_TOKEN", "AWORLD_SEARCH_KEY")]
    seen = play(SubprocessSandbox(), tmp_path / "root", own, *asked, ("count", {}))
    assert texts(seen)[:3] == ["value of COMPANY_KEY", "not set", "not set"]
    assert seen[3].is_error and "no tool 'count'" in seen[3].text


def test_an_address_that_wants_a_key(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = schema.McpServer(url=address, key_variable="COMPANY_KEY", tools=["count"])
    assert texts(play(SubprocessSandbox(), tmp_path / "root", own, ("count", {}), ("count", {}))) == ["1", "2"]
    monkeypatch.setenv("COMPANY_KEY", "a wrong one")
    with pytest.raises(InfrastructureError, match="did not start") as refused:
        play(SubprocessSandbox(), tmp_path / "root", own)
    assert "a wrong one" not in str(refused.value) and address in str(refused.value)


def test_no_proxy_stands_before_an_address_that_is_near(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nobody is there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    own = schema.McpServer(url=address, key_variable="COMPANY_KEY", tools=["count"])
    assert texts(play(SubprocessSandbox(), tmp_path / "root", own, ("count", {}))) == ["1"]


def test_the_cache_knows_a_call_by_those_before_and_needs_nobody(address: str, tmp_path: Path) -> None:
    own = schema.McpServer(url=address, key_variable="COMPANY_KEY", tools=["count"])
    cache = str(tmp_path / "cache")
    calls = [("count", {}), ("count", {}), ("count", {"by": 10})]
    first = texts(play(SubprocessSandbox(), tmp_path / "root", own, *calls, web_cache=cache))
    assert first == ["1", "2", "12"]
    own.url = "http://127.0.0.1:9/gone"
    again = play(SubprocessSandbox(), tmp_path / "root", own, *calls, ("count", {}), web_cache=cache, web_mode="strict")
    assert texts(again)[:3] == first
    assert "was not recorded" in again[3].text


def test_a_command_outside_takes_nothing_of_the_policys_for_a_program(tmp_path: Path) -> None:
    """It starts in a folder of its own, as Python, npx and others look for programs where they start."""
    own = schema.McpServer(command=BESIDE, outside=True)
    plant = ("python", {"code": "open('json.py', 'w').write('import os; os._exit(1)')"})
    seen = play(SubprocessSandbox(), tmp_path / "root", own, plant, ("count", {}), ("folder", {}))
    assert seen[1].text == "1" and "json.py" not in seen[2].text


def test_files_that_a_server_names_are_kept_from_the_episode_alone(tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    own, cache = schema.McpServer(command=BESIDE, outside=True), str(tmp_path / "cache")
    calls = [("picture", {"name": name}) for name in (str(secret), "../../id_rsa", "plot.png")]
    look = ("python", {"code": "print(open('plot.png').read())"})
    for folder, mode in (("a", "record"), ("b", "strict")):
        seen = play(SubprocessSandbox(), tmp_path / folder, own, *calls, look, web_cache=cache, web_mode=mode)
        assert texts(seen) == ["Saved.", "Saved.", "Saved.", "a picture"], seen
    assert [file.read_text() for file in (tmp_path / "cache" / "files").iterdir()] == ["a picture"]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (schema.McpServer(), "neither of command and url"),
        (schema.McpServer(command=["a"], url="http://x"), "both of command and url"),
        (schema.McpServer(command=["a"], variables=["B"]), "set environment.mcp.counting.outside=true"),
        (schema.McpServer(url="http://x", outside=True), "leave out environment.mcp.counting.outside"),
        (schema.McpServer(url="http://x", key_variable="NO_SUCH"), "NO_SUCH, which is not set"),
        (schema.McpServer(command=BESIDE, outside=True, tools=["add"]), "has count, secret, folder, picture, end"),
    ],
)
def test_what_cannot_be_is_one_line(own: schema.McpServer, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        play(SubprocessSandbox(), tmp_path / "root", own)


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    config = schema.Environment(servers=["python"], slots=1)
    config.mcp = {name: schema.McpServer(command=BESIDE, outside=name == "b") for name in ("a", "b")}

    async def story() -> None:
        async with EnvironmentPool(config, SubprocessSandbox(), None, tmp_path) as pool, pool.episode():
            pass

    with pytest.raises(InputError, match="two servers of this environment have a tool 'count'"):
        asyncio.run(story())
    assert list(tmp_path.iterdir()) == []
