"""`python`: each call runs its code in a copy of an interpreter that has run nothing. No process outlives a call."""

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


class Template:
    """An interpreter that runs no code itself: each piece runs in a copy of it. After it was killed, a new one starts.

    Attributes:
        is_free: whether it has told the end of each copy.
    """

    def __init__(self) -> None:
        self._start()

    async def copy(self, stdin: int, stdout: int, stderr: int) -> "Copy":
        """A process that runs the code on `stdin`.

        Raises:
            OSError: no process can be started.
        """
        if self.is_free:
            with suppress(OSError):  # the code of an earlier call has killed it
                return await self._asked(stdin, stdout, stderr)
        # Where a call was given up before the end of its copy was told, the next reply would be that copy's.
        self.end()
        self._start()
        return await self._asked(stdin, stdout, stderr)

    async def _asked(self, *streams: int) -> "Copy":
        self.is_free = False
        try:
            socket.send_fds(self.requests, [b"c"], streams)
            if not (pid := await asyncio.get_running_loop().sock_recv(self.requests, 4)):
                raise OSError("no process could be started for the code")
        except BaseException:
            self.end()  # and with it a copy that may have begun
            raise
        return Copy(int.from_bytes(pid, "little"), self)

    def _start(self) -> None:
        self.requests, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests.setblocking(False)
        with its:
            nothing, command = subprocess.DEVNULL, interpreter("template", its.fileno())
            self._process = subprocess.Popen(
                command, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=(its.fileno(),), start_new_session=True
            )
        execute.kept.add(self._process.pid)
        self.is_free = True

    def end(self) -> None:
        """Kill it. A copy that lives on has this process for a parent then."""
        self.requests.close()
        self._process.kill()
        self._process.wait()
        execute.kept.discard(self._process.pid)


@dataclass
class Copy:
    """A copy of the template, which runs one piece of code. See `execute.Process`."""

    pid: int
    template: Template
    returncode: int | None = None

    async def wait(self) -> int:
        if self.returncode is None:
            said = await asyncio.get_running_loop().sock_recv(self.template.requests, 4)
            if said:
                self.returncode = int.from_bytes(said, "little", signed=True)
                self.template.is_free = True
            else:
                self.template.end()
                self.returncode = -signal.SIGKILL
        return self.returncode


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    template = Template()  # it starts while the server does

    async def python(code: str) -> Result:
        return await execute.run_process(template.copy, code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python"])
