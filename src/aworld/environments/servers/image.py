"""`read_image`: a picture's form and EXIF, and the text in it by OCR.

By Pillow (MIT-CMU) and RapidOCR (Apache-2.0) with onnxruntime (MIT); the models (Apache-2.0) come with RapidOCR. What a
picture shows besides text is left out.
"""

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers import execute


async def read_image(path: str) -> CallToolResult:
    return await execute.work("image", "read_image", path=path)


def add_to(server: MCPServer) -> None:
    execute.adopt_orphans()
    server.add_tool(
        read_image, description="Size, date, place and the text (OCR) of a picture.", structured_output=False
    )


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["image"])
