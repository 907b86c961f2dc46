"""`terminal`: a command of bash in the working folder, of which nothing runs on when the call is over."""

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers import execute


async def terminal(command: str) -> CallToolResult:
    # the command comes as an option's value: what it starts shall not read it as its input
    return await execute.run(
        ("bash", "--noprofile", "--norc", "-c", command), "", execute.seconds_of("terminal"), joined=True
    )


def add_to(server: MCPServer) -> None:
    execute.adopt_orphans()
    server.add_tool(terminal, description="Run a bash command.", structured_output=False)


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["terminal"])
