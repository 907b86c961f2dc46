"""Tool servers outside the sandbox: our web tools, and the user's own with `outside` or an address.

They run as processes of this machine in the episode's folder, or somewhere else already. Nothing else of an episode has
the network.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments import watchdog
from aworld.environments.sandbox import Contents, Launch, SubprocessSandbox
from aworld.environments.session import Remote
from aworld.environments.toolbox import McpToolbox, seconds_of
from aworld.errors import InputError
from aworld.nodelocal import remove

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")  # with their upper-case names
MAPPED_MB = 1 << 26  # a browser maps terabytes that it never uses; what it does use is watched
PROCESSES = 4096  # and its threads count
LIMITED = ("browse", "vision", "speech", "reasoning", "youtube")  # these end what takes too long themselves
BROWSE = "browse"  # what the names of the web tools with a state begin with

Calls = list[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Server:
    """How a server is reached.

    Attributes:
        where: of the episode's folder and a folder of the server's own, how the server is started or reached.
        remembers: of the name of a tool, whether its answers depend on earlier calls.
        only: names of the tools that are used; None: all.
        name: the key in `environment.mcp`; empty for our own.
    """

    where: Callable[[Path, Path], Launch | Remote]
    remembers: Callable[[str], bool]
    only: list[str] | None = None
    name: str = ""


def servers_of(config: schema.Environment) -> list[Server]:
    """Every server that the configuration puts outside the sandbox.

    Raises:
        InputError: one has no command and no address, or both; a variable that it names is not set.
    """
    found = []
    if config.web:
        argv = [SubprocessSandbox().python, "-P", "-m", "aworld.tools", *config.web]
        found.append(
            Server(partial(_beside, config, argv, _settings(config), True), lambda tool: tool.startswith(BROWSE))
        )
    for name, server in config.mcp.items():
        check(name, server)
        where: Callable[[Path, Path], Launch | Remote]
        if server.outside:
            env = {"PATH": os.environ.get("PATH", "")} | {one: _variable(name, one) for one in server.variables}
            where = partial(_beside, config, server.command, env, False)
        elif server.url:
            remote = Remote(server.url, _variable(name, server.key_variable) if server.key_variable else "")
            where = partial(_there, remote)
        else:
            continue
        found.append(Server(where, lambda tool: True, server.tools, name))
    return found


def check(name: str, server: schema.McpServer) -> None:
    """Check the settings of one server of the user's.

    Raises:
        InputError: it has no command and no address, or both, or a setting that goes with the other.
    """
    at = f"environment.mcp.{name}"
    if bool(server.command) == bool(server.url):
        raise InputError(f"{at} has {'both' if server.url else 'neither'} of command and url; give it one of them")
    if server.variables and not server.outside:
        raise InputError(
            f"{at}.variables are for a command outside the sandbox; set {at}.outside=true or leave them out"
        )
    if server.outside and server.url:
        raise InputError(f"{at} has a url, so nothing is started outside; leave out {at}.outside")


class Outside:
    """A server outside the sandbox, for one episode. It starts at the first call, and again after it broke."""

    def __init__(
        self, server: Server, config: schema.Environment, scratch: Path, home: Path, tools: list[dict[str, Any]]
    ):
        self.names = {tool["function"]["name"] for tool in tools}
        self.remembers = server.remembers
        self.in_turn = asyncio.Lock()  # held during a call: one that fails may cost its server
        self.history: Calls = []  # calls that the answers to later ones depend on
        self._server, self._config, self._scratch, self._home = server, config, scratch, home
        self._limits = replace(config, processes=PROCESSES)
        self._toolbox: McpToolbox | None = None
        self._done = 0  # how many calls of `history` this server process has received

    @property
    def broken(self) -> bool:
        return self._toolbox is None or bool(self._toolbox.broken)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Make the call. Where answers depend on earlier calls, this server first gets those that it has not seen."""
        if self._toolbox is None or self._toolbox.broken:
            await self.close()
            self._home.mkdir(exist_ok=True)
            where = self._server.where(self._scratch, self._home)
            self._toolbox = await McpToolbox.start(where, self._config, self._server.only)
            self._done = 0
        if self.remembers(name):
            for earlier in self.history[self._done :]:
                await self._toolbox.call(*earlier)
            self._done = len(self.history)
        return await self._toolbox.call(name, arguments)

    def remember(self, name: str, arguments: Mapping[str, Any], seen: bool) -> None:
        """Record a call that later answers depend on; `seen`: this server answered it, not the cache."""
        if self.remembers(name):
            self.history.append((name, arguments))
            self._done += seen

    def watch(self) -> None:
        """Stop the server if it uses more memory than an episode may."""
        toolbox = self._toolbox
        if toolbox is not None and toolbox.pid and not toolbox.broken:
            reason = watchdog.excess([toolbox.pid], self._scratch, self._limits)
            if reason:
                toolbox.stop(reason)

    async def close(self) -> None:
        if self._toolbox is not None:
            await self._toolbox.close()
            await asyncio.to_thread(remove, self._home)
        self._toolbox = None


def _beside(
    config: schema.Environment, argv: list[str], env: Mapping[str, str], is_ours: bool, scratch: Path, home: Path
) -> Launch:
    """A process of this machine with its proxies; a browser writes to `home`.

    Our servers start in `scratch`. A user's server starts in `home`: npx or python would run files that the policy's
    code wrote to `scratch`.
    """
    proxies = {key: value for key, value in os.environ.items() if key.lower() in PROXIES}
    limits = replace(config, memory_mb=MAPPED_MB, processes=PROCESSES)
    own = {"HOME": str(home), "TMPDIR": str(home), "AWORLD_EPISODE": str(scratch)}
    launch = SubprocessSandbox().launch(argv, Contents(scratch, limits, env={**proxies, **env, **own}))
    return launch if is_ours else replace(launch, cwd=home)


def _there(remote: Remote, scratch: Path, home: Path) -> Remote:
    return remote


def _settings(config: schema.Environment) -> dict[str, str]:
    """Environment variables of our own servers. Their limits end a slow call before the server is killed for it."""
    limits = {f"AWORLD_{tool.upper()}_SECONDS": f"{0.8 * seconds_of(config, tool):g}" for tool in LIMITED}
    given = {key: value for key, value in os.environ.items() if key.startswith("AWORLD_")}
    return {"AWORLD_WEB_SECONDS": f"{0.8 * config.call_seconds:g}", **given, **limits}


def _variable(name: str, variable: str) -> str:
    if variable not in os.environ:
        raise InputError(f"environment.mcp.{name} names the variable {variable}, which is not set; export it")
    return os.environ[variable]
