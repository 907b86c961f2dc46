"""`video_info` and `video_frames`: a video's length, size and rate, and pictures of it as files.

By PyAV (BSD-3; its wheels bring FFmpeg, x264 and x265: GPL, so `pip install av`). The sound is for `transcribe`.
"""

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, TextContent

from aworld.environments.servers import execute
from aworld.environments.servers.result import made


async def video_info(path: str) -> CallToolResult:
    return await execute.work("video", "video_info", path=path)


async def video_frames(path: str, at: tuple[float, ...] = (), every: float = 0) -> CallToolResult:
    done = await execute.work("video", "video_frames", path=path, at=at, every=every)
    content = done.content[0]
    if done.is_error or not isinstance(content, TextContent):
        return done
    return made(content.text, *(line.partition("\t")[0] for line in content.text.splitlines()))


def add_to(server: MCPServer) -> None:
    execute.adopt_orphans()
    server.add_tool(video_info, description="Length, size and frame rate of a video.", structured_output=False)
    server.add_tool(
        video_frames,
        description="Save pictures of a video, at most 20: at these seconds, or every so many seconds.",
        structured_output=False,
    )


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["video"])
