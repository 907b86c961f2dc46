"""`python`: code in an interpreter that has run nothing before, and of which nothing runs on when the call is over."""

import asyncio
import os
import signal
import site
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aworld.tools.common import execute
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer

RUN_CODE = Path(execute.__file__).with_name("run_code.py")


def interpreter(kind: str, request: int) -> tuple[str | Path, ...]:
    """The command that runs the agent's code. AWORLD_LIBRARIES names the modules it may import; unset: all.

    Args:
        kind: template or session.
        request: the number of an open socket.
    """
    # -I -S: 13 ms instead of 20; it finds the installed packages by itself
    packages, libraries = os.pathsep.join(site.getsitepackages()), os.environ.get("AWORLD_LIBRARIES", "")
    python = (sys.executable, "-I", "-S", RUN_CODE, packages, libraries, kind, str(request))
    return "setpriv", "--pdeathsig", "KILL", "--", *python


@dataclass
class Copy:
    """A copy of the template, which runs one piece of code. See `execute.Process`."""

    pid: int
    template: socket.socket
    returncode: int | None = None

    async def wait(self) -> int:
        if self.returncode is None:
            said = await asyncio.get_running_loop().sock_recv(self.template, 4)
            died_with_it = -signal.SIGKILL
            self.returncode = int.from_bytes(said, "little", signed=True) if said else died_with_it
        return self.returncode


class Template:
    """An interpreter that runs nothing itself. It starts when it is needed first, and again after it was killed."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def copy(self, stdin: int, stdout: int, stderr: int) -> Copy:
        """A process that runs the code on `stdin`.

        Raises:
            OSError: no process can be started.
        """
        if self._socket is not None:
            with suppress(OSError):  # the code of an earlier call has killed it
                return await self._asked(self._socket, stdin, stdout, stderr)
        return await self._asked(self._start(), stdin, stdout, stderr)

    async def _asked(self, template: socket.socket, *streams: int) -> Copy:
        socket.send_fds(template, [b"c"], streams)
        if not (pid := await asyncio.get_running_loop().sock_recv(template, 4)):
            raise OSError("the interpreter was killed")
        return Copy(int.from_bytes(pid, "little"), template)

    def _start(self) -> socket.socket:
        if self._socket and self._process:
            self._socket.close()
            self._process.kill()
            execute.kept.discard(self._process.pid)
            self._process.wait()
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with its:
            nothing, command = subprocess.DEVNULL, interpreter("template", its.fileno())
            self._process = subprocess.Popen(
                command, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=(its.fileno(),), start_new_session=True
            )
        execute.kept.add(self._process.pid)
        return self._socket


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    template = Template()

    async def python(code: str) -> Result:
        return await execute.run_process(template.copy, code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python"])
