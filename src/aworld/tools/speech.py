"""`speech`: what is said in an audio file of the working folder, by a model that hears, which AWORLD_SPEECH_… names."""

import asyncio
import mimetypes
from pathlib import Path

from aworld.tools.common import endpoint, opened
from aworld.tools.common.result import Result, error
from aworld.tools.common.server import ToolServer


async def speech(path: str) -> Result:
    try:
        model = endpoint.of("speech")
        content = await asyncio.to_thread(opened.read, path)
        if not content:
            return error(f"{path[:100]!r} is empty")
        name = Path(path).name
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        transcript = await model.transcribe(name, kind, content)
    except endpoint.EndpointError as reason:
        return endpoint.failed(reason)
    except opened.NoFileError as reason:
        return error(str(reason))
    return endpoint.told(model, transcript or "(nothing is said in it)")


def add_to(server: ToolServer) -> None:
    server.add_tool(speech, description="Write down what is said in an audio file.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["speech"])
