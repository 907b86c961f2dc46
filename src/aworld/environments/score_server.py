"""Score answers inside a sandbox: `python -P score_server.py FILE [ARGUMENT …]`.

FILE holds `score(request) -> float | dict` and is imported once, with the arguments in `sys.argv`. Each request is
scored in a fork of its own: what an answer changes or starts there is gone with the fork, at its time limit at the
latest. A message on stdin and stdout is a length of 4 bytes and JSON. A request is {"seconds": limit, "key": hex,
"request": …}. A reply begins with the bytes of the key; then it is {"worth": what `score` returned} or {"error": what
it raised, "line": where}; {} where the fork was killed or took too long. A first message says that FILE is imported.

The kernel keeps other processes of this user from the memory and the open files of the server and its forks. A program
that `score` runs may find stdout open in a process of the sandbox itself, but does not know the key: so it cannot forge
the reply. Code in the fork itself can.
"""

import ctypes
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
HEAD = 4  # bytes of a message's length
LONGEST_REPLY = 1 << 16  # bytes; a longer one is none

Score = Callable[[dict[str, Any]], Any]


def framed(message: Any) -> bytes:
    """A message as it is written."""
    text = json.dumps(message, default=float).encode()  # a number of numpy, for one
    return len(text).to_bytes(HEAD, "big") + text


def serve(score: Score, requests: int, replies: int) -> None:
    write(replies, framed({}))
    with open(requests, "rb") as pieces:
        while size := pieces.read(HEAD):
            asked = json.loads(pieces.read(int.from_bytes(size, "big")))
            reply = scored(score, asked["request"], asked["seconds"], (requests, replies))
            write(replies, bytes.fromhex(asked["key"]) + reply)


def scored(score: Score, request: Any, seconds: float, closed: tuple[int, ...]) -> bytes:
    """The reply to one request, from a fork without the files `closed`."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        for fd in (ours, *closed):
            os.close(fd)
        with suppress(BaseException):
            write(its, outcome(score, request))
        os._exit(0)
    os.close(its)
    reply = read(ours, time.monotonic() + seconds)
    os.close(ours)
    bury(child)
    return reply


def outcome(score: Score, request: Any) -> bytes:
    """The reply, or the error; a value that JSON does not know is an error, too."""
    try:
        return framed({"worth": score(request)})
    except BaseException as error:  # of an answer that the scorer cannot read, such as SystemExit
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{os.path.basename(f.filename)} line {f.lineno}" for f in frames if f.filename != __file__]  # noqa: PTH119
        return framed({"error": f"{type(error).__name__}: {error}"[:1000], "line": own[-1] if own else ""})


def read(fd: int, ends: float) -> bytes:
    """A whole message; a first one without content where none comes before `ends`, or it is too long."""
    message, wanted = b"", HEAD
    while len(message) < wanted:
        ready, _, _ = select.select([fd], [], [], max(0.0, ends - time.monotonic()))
        piece = os.read(fd, wanted - len(message)) if ready else b""
        if not piece:
            return framed({})
        message += piece
        if len(message) == HEAD:
            wanted += int.from_bytes(message, "big")
            if wanted > LONGEST_REPLY:
                return framed({})
    return message


def write(fd: int, message: bytes) -> None:
    while message:
        message = message[os.write(fd, message) :]


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
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # forks inherit it; a program that one executes is dumpable again
    requests, replies, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # an answer that prints is not a reply
        os.dup2(nothing, stream)
    file, *sys.argv[1:] = sys.argv[1:]
    serve(runpy.run_path(file)["score"], requests, replies)
