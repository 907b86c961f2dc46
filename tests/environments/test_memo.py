"""Tools that an earlier pool has noted: an episode begins with them, and fails where the sandbox has others."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aworld import config as schema
from aworld.environments.memo import ToolsMemo
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.tools


def config(*servers: str, **values: Any) -> schema.Environment:
    return schema.Environment(servers=list(servers), slots=1, **values)


async def tools_at_the_start(root: Path, memo: Path, call: bool = False, **values: Any) -> tuple[list[dict], bool]:
    """The tools of an episode, and whether it had a sandbox when they were known."""
    async with (
        EnvironmentPool(config("python", "folder", **values), SubprocessSandbox(), None, root, memo) as pool,
        pool.episode() as environment,
    ):
        known = environment.tools, environment.taken is not None
        if call:
            assert (await environment.call("python", {"code": "6 * 7"})).text == "42"
        return known


@pytest.mark.parametrize("call", [True, False])
def test_a_worker_begins_with_the_tools_that_another_has_seen(call: bool, tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    first, had_a_sandbox = asyncio.run(tools_at_the_start(tmp_path, memo))
    assert had_a_sandbox and {"python", "write_file"} <= {tool["function"]["name"] for tool in first}
    again, had_a_sandbox = asyncio.run(tools_at_the_start(tmp_path, memo, call))
    assert json.dumps(again) == json.dumps(first) and not had_a_sandbox  # in this order they are in the prompt


@pytest.mark.parametrize("call", [True, False])
def test_an_episode_whose_tools_have_changed_since_is_played_again(call: bool, tmp_path: Path) -> None:
    """Else the policy would learn from a prompt with tools that are not there."""
    memo = tmp_path / "memo"
    right, _ = asyncio.run(tools_at_the_start(tmp_path, memo))
    (path,) = memo.iterdir()
    stale = json.loads(path.read_text())
    stale[0]["function"]["description"] = "what it was"
    path.write_text(json.dumps(stale))

    async def story() -> None:
        async with EnvironmentPool(config("python", "folder"), SubprocessSandbox(), None, tmp_path, memo) as pool:
            with pytest.raises(InfrastructureError, match="other tools than an earlier worker"):
                async with pool.episode() as environment:
                    assert environment.tools == stale
                    if call:  # the episode need not go on
                        with pytest.raises(InfrastructureError, match="other tools than an earlier worker"):
                            await environment.call("python", {"code": "1"})
            async with pool.episode() as environment:
                assert environment.tools == right

    asyncio.run(story())
    assert json.loads(path.read_text()) == right


@pytest.mark.unit
def test_other_servers_have_a_note_of_their_own(tmp_path: Path) -> None:
    own = {"mine": schema.McpServer(command=["server"])}
    choices = [config("python"), config("python", "files"), config("python", mcp=own)]
    assert len({ToolsMemo(tmp_path, choice).path for choice in choices}) == 3
    assert ToolsMemo(tmp_path, config("python", result_chars=10)).path == ToolsMemo(tmp_path, choices[0]).path
