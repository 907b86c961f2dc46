"""Run an agent program beside a way to the gateway: `python -I -S forwarder.py COMMAND …`, inside the sandbox.

The sandbox has no network but a loopback of its own. A port there leads to the gateway's socket, whose path is in
AWORLD_GATEWAY. The program finds the port in its variables. The exit status is the command's.
"""

import asyncio
import os
import sys

CONNECTIONS = 64  # at the same time; further ones wait
BLOCK = 1 << 16


async def run(command: list[str]) -> int:
    gateway = os.environ.pop("AWORLD_GATEWAY")
    free = asyncio.Semaphore(CONNECTIONS)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with free:
            from_gateway, to_gateway = await asyncio.open_unix_connection(gateway)
            await asyncio.gather(copy(reader, to_gateway), copy(from_gateway, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    key = os.environ["OPENAI_API_KEY"]
    env = {**os.environ, "OPENAI_BASE_URL": f"{address}/v1", "AWORLD_MCP_URL": f"{address}/mcp/{key}/"}
    try:
        process = await asyncio.create_subprocess_exec(*command, env=env)
    except OSError as reason:
        print(f"{command[0]}: {reason.strerror}", file=sys.stderr)
        return 127
    code = await process.wait()
    return code if code >= 0 else 128 - code


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
    except OSError:
        pass  # one side has left
    finally:
        writer.close()


if __name__ == "__main__":
    os._exit(asyncio.run(run(sys.argv[1:])))  # connections that are open need no farewell
