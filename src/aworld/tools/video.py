"""`video_info` and `video_frames`: a video's length, size and rate, and pictures of it as files.

By PyAV (BSD-3; its wheels bring FFmpeg, x264 and x265: GPL, so `pip install av`). The sound is for `transcribe`.
"""

from aworld.tools.common import execute
from aworld.tools.common.result import Result, made
from aworld.tools.common.server import ToolServer


def video_info(path: str) -> Result:
    return execute.work("video", "video_info", path=path)


def video_frames(path: str, at: tuple[float, ...] = (), every: float = 0) -> Result:
    done = execute.work("video", "video_frames", path=path, at=at, every=every)
    if done.is_error:
        return done
    return made(done.text, *(line.partition("\t")[0] for line in done.text.splitlines()))


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    server.add_tool(video_info, description="Length, size and frame rate of a video.")
    server.add_tool(
        video_frames,
        description="Save pictures of a video, at most 20: at these seconds, or every so many seconds.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["video"])
