"""A warm slot of the pool: the tool servers of one episode, and the folder they work in."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments import watchdog
from aworld.environments.program import Program, launch_of
from aworld.environments.sandbox import Launch, Sandbox
from aworld.environments.scratch import keep
from aworld.environments.toolbox import McpToolbox
from aworld.environments.web import WebTools


@dataclass
class SlotServer:
    """A server of a slot, and how to start it again."""

    launch: Launch
    only: list[str] | None
    toolbox: McpToolbox


@dataclass(eq=False)
class Slot:
    """Warm servers and their scratch: an Environment.

    Attributes:
        folder: all that an episode writes; the scratch, or a task's container with its scratch.
        shown: the scratch, where it is not the working folder of the tools.
        sandbox: of an agent program.
        program: the agent program of the episode, under the same limits.
    """

    servers: list[SlotServer]
    config: schema.Environment
    folder: Path
    scratch: Path
    sandbox: Sandbox
    shown: str = ""
    program: Program | None = None
    web: WebTools | None = None  # of the episode that is played here
    had_broken_server: bool = False
    attachments_mb: int = 0  # of the episode that is played here: no file of its own making

    def __post_init__(self) -> None:
        self.tools = self.sandbox_tools = [tool for server in self.servers for tool in server.toolbox.tools]

    @property
    def broken(self) -> bool:
        return any(server.toolbox.broken for server in self.servers)

    @property
    def independent(self) -> Collection[str]:
        return self.web.names if self.web else ()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool. After a call that broke a server, the next one finds a new server on the same scratch."""
        if self.web and name in self.web.names:
            return await self._fitted(await self.web.call(name, arguments))
        has = (server for server in self.servers if name in server.toolbox.names)
        server = next(has, self.servers[0])
        if server.toolbox.broken:
            await server.toolbox.close()
            server.toolbox = await McpToolbox.start(server.launch, self.config, server.only)
        observation = await server.toolbox.call(name, arguments)
        self.had_broken_server = self.had_broken_server or bool(server.toolbox.broken)
        return await self._fitted(observation)

    def excess(self) -> str:
        """The limit that its servers together exceed, in words; empty where there is none."""
        alive = [server.toolbox.pid for server in self.servers if not server.toolbox.broken]
        alive += [self.program.pid] if self.program and self.program.is_alive else []
        return watchdog.excess(alive, self.folder, self.limits) if alive else ""

    @property
    def limits(self) -> schema.Environment:
        """The episode's limits. `scratch_mb` is for the files it makes, so attachments are added."""
        return replace(self.config, scratch_mb=self.config.scratch_mb + self.attachments_mb)

    def stop(self, reason: str) -> None:
        for server in self.servers:
            server.toolbox.stop(reason)
        if self.program:
            self.program.stop(reason)

    async def start_program(
        self, sandbox: Sandbox, program: schema.AgentProgram, question: str, key: str, socket: Path
    ) -> Program:
        """Start the episode's agent program. It ends with `end_program`, at the latest with the episode.

        Args:
            key: of its session at the gateway, which listens on `socket`.

        Raises:
            InfrastructureError: its sandbox does not start.
        """
        launch = launch_of(sandbox, program, key, socket, self.scratch, self.limits)
        self.program = await Program.start(launch, question)
        return self.program

    async def end_program(self) -> None:
        if self.program:
            await self.program.close()
        self.program = None

    async def close(self) -> None:
        await asyncio.gather(*(server.toolbox.close() for server in self.servers))

    async def _fitted(self, observation: Observation) -> Observation:
        """The observation cut to `result_chars`; the whole text is kept in the scratch."""
        limit = self.config.result_chars
        if len(observation.text) <= limit:
            return observation
        whole = await asyncio.to_thread(keep, observation.text, self.scratch)
        kept = f"; the whole of this result is in {self.shown}{whole}" if whole else ""
        note = f"[cut: {limit} of {len(observation.text)} characters{kept}]"
        return replace(observation, text=f"{observation.text[:limit]}\n{note}")
