"""`terminal` through a real client, in every sandbox that works here."""

import asyncio
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools


def play(sandbox: Sandbox, root: Path, *commands: str, **values: float) -> list[Observation]:
    config = schema.Environment(servers=["terminal"], slots=1, **values)  # type: ignore[arg-type]

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, sandbox, None, root) as pool, pool.episode() as environment:
            return [await environment.call("terminal", {"command": command}) for command in commands]

    return asyncio.run(story())


def test_commands_share_the_folder_and_nothing_else(sandbox: Sandbox, tmp_path: Path) -> None:
    seen = play(sandbox, tmp_path, "seq 3 | tee f; x=1; cd /", "cat f; echo [$x]; pwd | xargs basename; cat")
    assert [one.is_error for one in seen] == [False, False]
    assert seen[0].text == "1\n2\n3"
    assert seen[1].text.splitlines()[:4] == ["1", "2", "3", "[]"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo before; ls nothing-here", "before\n"),
        ("echo before; ls nothing-here", "No such file or directory"),
        ("exit 3", "exit status 3"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("if", "syntax error"),
    ],
)
def test_what_fails_says_why(sandbox: Sandbox, tmp_path: Path, command: str, told: str) -> None:
    (seen,) = play(sandbox, tmp_path, command)
    assert seen.is_error and told in seen.text


@pytest.mark.parametrize("leave", ["(sleep 1; touch late) & disown", "setsid -f sh -c 'sleep 1; touch late'"])
def test_nothing_runs_on_when_a_call_is_over(sandbox: Sandbox, tmp_path: Path, leave: str) -> None:
    seen = play(sandbox, tmp_path, f"{leave}; echo gone", "sleep 1.5; ls")
    assert [one.text for one in seen] == ["gone", "(no output)"]


def test_the_limit_of_one_tool(sandbox: Sandbox, tmp_path: Path) -> None:
    config = {"call_seconds": 20.0, "tool_seconds": {"terminal": 1.0}}
    (seen,) = play(sandbox, tmp_path, "sleep 10", **config)  # type: ignore[arg-type]
    assert seen.text == "stopped: ran longer than 0.8 s"
