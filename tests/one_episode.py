"""Calls of one server's tools in one episode, through a real client."""

import asyncio
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, SubprocessSandbox

Call = tuple[str, dict[str, Any]]


def play(
    server: str, files: Path, *calls: Call, sandbox: Sandbox | None = None, servers: tuple[str, ...] = (), **values: Any
) -> list[Observation]:
    """With the files of that folder as attachments; in a plain process unless a sandbox is given, under default limits.

    But for time: a machine that tests has other things to do as well.
    """
    config = schema.Environment(servers=[server, *servers], slots=1, **({"call_seconds": 60.0} | values))
    root = files.with_name("root")
    root.mkdir(exist_ok=True)

    async def story() -> list[Observation]:
        async with (
            EnvironmentPool(config, sandbox or SubprocessSandbox(), None, root) as pool,
            pool.episode(tuple(sorted(files.iterdir()))) as environment,
        ):
            return [await environment.call(name, arguments) for name, arguments in calls]

    return asyncio.run(story())
