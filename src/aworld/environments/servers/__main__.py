"""`python -m aworld.environments.servers python files search`: several tool servers as one process over stdio."""

import sys
from importlib import import_module

from mcp.server.mcpserver import MCPServer

from aworld.environments.servers import SERVERS


def serve(names: list[str]) -> None:
    server = MCPServer("aworld", log_level="ERROR")
    for name in names:
        if name not in SERVERS:
            raise SystemExit(f"no tool server '{name}'; valid: {', '.join(SERVERS)}")
        import_module(f"aworld.environments.servers.{name}").add_to(server)
    server.run()


if __name__ == "__main__":
    serve(sys.argv[1:])
