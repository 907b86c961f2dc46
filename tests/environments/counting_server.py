"""An MCP server as a user would bring one, by the SDK alone: `python counting_server.py [PORT KEY]`.

`count` remembers, `secret` shows a variable, `folder` where it works, `picture` leaves a file, `end` ends the
process. With a port it speaks streamable HTTP, and wants the key.
"""

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ResourceLink, TextContent

server = MCPServer("counting")
counted = 0


@server.tool(structured_output=False)
def count(by: int = 1) -> str:
    global counted
    counted += by
    return str(counted)


@server.tool(structured_output=False)
def secret(name: str) -> str:
    return os.environ.get(name, "not set")


@server.tool(structured_output=False)
def folder() -> str:
    return f"{Path.cwd()} {sorted(file.name for file in Path.cwd().iterdir())}"


@server.tool(structured_output=False)
def picture(name: str) -> CallToolResult:
    """Says that it made a file of this name, and does where it may."""
    if name == Path(name).name:
        Path(os.environ["AWORLD_EPISODE"], name).write_text("a picture")
    link = ResourceLink(type="resource_link", name=name, uri="file:///picture")
    return CallToolResult(content=[TextContent(type="text", text="Saved."), link])


@server.tool(structured_output=False)
def end() -> str:
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        server.run()
    else:
        import uvicorn
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, Response

        app: Starlette = server.streamable_http_app()

        class Locked:
            async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
                if scope["type"] == "http" and Request(scope).headers.get("authorization") != f"Bearer {sys.argv[2]}":
                    refused: Response = PlainTextResponse("no", 401)
                    await refused(scope, receive, send)
                else:
                    await app(scope, receive, send)

        uvicorn.run(Locked(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
