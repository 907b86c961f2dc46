"""`terminal`: a command of bash in the working folder, of which nothing runs on when the call is over."""

import os

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers import execute


async def terminal(command: str) -> CallToolResult:
    limit = float(os.environ.get("AWORLD_TERMINAL_SECONDS", "10"))
    # the command comes as an option's value: what it starts shall not read it as its input
    return await execute.run(("bash", "--noprofile", "--norc", "-c", command), "", limit, joined=True)


def add_to(server: MCPServer) -> None:
    execute.adopt_orphans()
    server.add_tool(terminal, description="Run a bash command.", structured_output=False)


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["terminal"])
