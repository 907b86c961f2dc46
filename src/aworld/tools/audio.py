"""`transcribe`: the English speech of a sound file, or of a video's sound, as text.

By PyAV (BSD-3; its wheels bring FFmpeg, x264 and x265: GPL, so `pip install av`) and pocketsphinx (BSD-2), whose model
comes with it. A core hears about five times as fast as is spoken; what a call has no time for, the next one hears with
`start`.
"""

from aworld.tools.common import execute
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer

PART = 0.7  # of the time of a call, for hearing; the rest is for starting, and for the last stretch


def transcribe(path: str, start: float = 0) -> Result:
    seconds = PART * execute.seconds_of("transcribe")
    return execute.work("audio", "transcribe", path=path, start=max(start, 0), seconds=seconds)


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    server.add_tool(
        transcribe,
        description="Length of a sound or video file and its English speech as rough text, from second start on.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["audio"])
