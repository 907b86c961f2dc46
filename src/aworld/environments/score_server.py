"""Score answers inside a sandbox: `python -P score_server.py FILE SECONDS`.

FILE holds `score(request) -> float` and is imported once. Each request is scored in a fork of its own: what an answer
changes or starts there is gone with the fork, after SECONDS at the latest. A request on stdin is a length of 8 bytes
and JSON. A reply on stdout is a double, 0 where the fork failed or did not end. A first one says that FILE is imported.
"""

import ctypes
import json
import os
import runpy
import select
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
REPLY = struct.Struct("d")

Score = Callable[[dict[str, Any]], float]


def serve(score: Score, seconds: float, requests: int, replies: int) -> None:
    os.write(replies, REPLY.pack(0.0))
    with open(requests, "rb") as pieces:
        while size := pieces.read(8):
            request = json.loads(pieces.read(int.from_bytes(size, "big")))
            os.write(replies, REPLY.pack(scored(score, request, seconds, (requests, replies))))


def scored(score: Score, request: dict[str, Any], seconds: float, closed: tuple[int, ...]) -> float:
    """The reward of one request, from a fork without the files `closed`."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        for fd in (ours, *closed):
            os.close(fd)
        reward = 0.0
        with suppress(BaseException):  # an answer that the scorer cannot read is worth nothing
            reward = float(score(request))
        os.write(its, REPLY.pack(reward))
        os._exit(0)
    os.close(its)
    in_time, _, _ = select.select([ours], [], [], seconds)
    reply = os.read(ours, REPLY.size) if in_time else b""
    os.close(ours)
    bury(child)
    return float(REPLY.unpack(reply)[0]) if len(reply) == REPLY.size else 0.0


def bury(child: int) -> None:
    """Kill a fork and all that it started: as a subreaper we become the parent of whatever it leaves behind."""
    with suppress(ProcessLookupError):  # it has not yet a session of its own
        os.killpg(child, signal.SIGKILL)
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        return [int(pid) for pid in f.read().split()]


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    requests, replies, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # an answer that prints is not a reply
        os.dup2(nothing, stream)
    file, seconds = sys.argv[1:]
    serve(runpy.run_path(file)["score"], float(seconds), requests, replies)
