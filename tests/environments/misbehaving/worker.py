"""A worker that starts a server, prints the ids of the processes under it, and is killed: SANDBOX IMAGE SCRATCH."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil

from aworld import config as schema
from aworld.environments.sandbox import Contents, choose
from aworld.environments.toolbox import McpToolbox


async def main(name: str, image: str, scratch: str) -> None:
    sandbox, limits, server = choose(name, image), schema.Environment(), Path(__file__).with_name("server.py")
    argv = [sandbox.python, str(server), "hang", scratch]
    toolbox = await McpToolbox.start(sandbox.launch(argv, Contents(Path(scratch), limits, [server])), limits)
    call = asyncio.create_task(toolbox.call("work", {"n": 1}))
    await asyncio.sleep(0.1)
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    await call


asyncio.run(main(*sys.argv[1:]))
