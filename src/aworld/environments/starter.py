"""The start of a slot: which servers it has, and what contains them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.environments import container as containers
from aworld.environments.sandbox import SCRATCH, Contents, Launch, Sandbox
from aworld.environments.slot import Slot, SlotServer
from aworld.environments.toolbox import McpToolbox
from aworld.errors import InfrastructureError, InputError
from aworld.nodelocal import remove
from aworld.tasks.task import Container

OWN_LIMIT = 0.8  # of a call's time limit: tools end the programs they run by then, before the server would be killed


@dataclass(frozen=True)
class Starter:
    """Starts slots.

    Attributes:
        corpus: JSONL file that the search server answers from.
        root: existing folder in which each slot has its own.
        outside: specs of the tools outside the sandbox, of each server there.
    """

    config: schema.Environment
    sandbox: Sandbox
    corpus: Path | None
    root: Path
    outside: list[list[dict[str, Any]]]

    async def start(self, container: Container | None = None) -> Slot:
        """A slot whose servers run in the sandbox, or in the container of a task.

        Raises:
            InfrastructureError: there is no room for it, or a server does not start.
            InputError: two servers have a tool of one name, or one lacks a tool that is named.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix="slot-", dir=self.root))
            scratch = containers.prepare(folder) if container else folder
        except OSError as reason:
            raise InfrastructureError(
                f"no scratch for an environment: {reason}; free the disk, or use another"
            ) from None
        servers: list[SlotServer] = []
        try:
            for launch, only in self._inside(container, folder) if container else self._launches(scratch):
                servers.append(SlotServer(launch, only, await McpToolbox.start(launch, self.config, only)))
            _distinct([*(server.toolbox.tools for server in servers), *self.outside])
        except BaseException:
            await asyncio.gather(*(server.toolbox.close() for server in servers))
            await asyncio.to_thread(remove, folder)
            raise
        return Slot(servers, self.config, folder, scratch, self.sandbox, f"{SCRATCH}/" if container else "")

    def _inside(self, container: Container, folder: Path) -> Iterator[tuple[Launch, list[str] | None]]:
        """The server inside a task's container."""
        argv = containers.server_of(self.config)
        yield containers.launch(container, folder, argv, self.config, self._own_limits()), None

    def _own_limits(self) -> dict[str, str]:
        """Variables: the code's own limits come first, so that code that runs too long does not cost its server."""
        limits = {"call": self.config.call_seconds} | self.config.tool_seconds
        return {f"AWORLD_{tool.upper()}_SECONDS": f"{OWN_LIMIT * seconds:g}" for tool, seconds in limits.items()}

    def _launches(self, scratch: Path) -> Iterator[tuple[Launch, list[str] | None]]:
        """The servers inside the sandbox: ours as one process, the user's own."""
        argv = [self.sandbox.python, "-P", "-m", "aworld.tools", *self.config.servers]
        env = self._own_limits()
        if self.corpus:
            env["AWORLD_CORPUS"] = str(self.corpus)
        seen = [self.corpus] if self.corpus else []
        if engine := shutil.which(os.environ.get("AWORLD_STOCKFISH", "")):
            seen.append(Path(engine).resolve())
            env["AWORLD_STOCKFISH"] = str(seen[-1])
        yield self.sandbox.launch(argv, Contents(scratch, self.config, seen, env)), None
        for server in self.config.mcp.values():
            if server.command and not server.outside:
                files = [Path(word) for word in server.command if word.startswith("/") and word.endswith(".py")]
                own = Contents(scratch, self.config, [file for file in files if file.is_file()])
                yield self.sandbox.launch(server.command, own), server.tools


def _distinct(toolsets: list[list[dict[str, Any]]]) -> None:
    """Check that each tool has a name of its own.

    Raises:
        InputError: two servers have a tool of one name.
    """
    names = [tool["function"]["name"] for tools in toolsets for tool in tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"two servers of this environment have a tool {twice[0]!r}; leave one of them out, or with "
            "environment.mcp.NAME.tools only that tool"
        )
