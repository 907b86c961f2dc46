"""A proxy for the browser, on this machine's loopback, that connects to the public web alone.

A browser looks a name up itself, some time after the name was checked, and may then find an address of this site's own
network. Behind the relay it looks up nothing: the relay connects to the very address that it has checked.
"""

import asyncio
from contextlib import suppress

import httpx

from aworld.tools.common import internet

HEAD_SECONDS = 30.0
BLOCK = 1 << 16
HOP = (b"connection:", b"proxy-connection:", b"keep-alive:", b"proxy-authorization:")  # headers for a proxy alone


async def start() -> str:
    """Its address, such as http://127.0.0.1:40123; it serves as long as the event loop runs."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await _relay(reader, writer)
    except internet.WebError:
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    finally:
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on one request, or one tunnel."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
    first, *headers = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = first.decode("ascii").split(" ", 2)
    is_tunnel = method == "CONNECT"
    url = httpx.URL(f"https://{target}" if is_tunnel else target)
    there, to_there = await _connect(url)
    try:
        if is_tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:  # the next request may be for another host: it comes on a connection of its own
            kept = [header for header in headers if not header.lower().startswith(HOP)]
            asked = f"{method} {url.raw_path.decode('ascii')} HTTP/1.1".encode()
            to_there.write(b"\r\n".join([asked, *kept, b"Connection: close", b"", b""]))
        sending = asyncio.create_task(_copy(reader, to_there))
        try:
            await _copy(there, writer)
        finally:
            sending.cancel()
    finally:
        to_there.close()


async def _connect(url: httpx.URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = url.port or (443 if url.scheme == "https" else 80)
    failure: OSError | None = None
    for address in await internet.check(url) or [url.host]:
        try:
            return await asyncio.wait_for(asyncio.open_connection(address, port), HEAD_SECONDS)
        except OSError as reason:  # TimeoutError is one
            failure = reason
    assert failure
    raise failure


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # either side may leave when it likes
        while block := await source.read(BLOCK):
            target.write(block)
            await target.drain()
