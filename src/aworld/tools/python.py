"""`python`: each call runs its code in a copy of an interpreter that has run nothing. No process outlives a call."""

import os
import signal
import site
import socket
import subprocess
import sys
from contextlib import suppress
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
    return (sys.executable, "-I", "-S", RUN_CODE, packages, libraries, kind, str(request))


class Template:
    """An interpreter that runs no code itself: each piece runs in a copy of it. One that was killed is replaced."""

    def __init__(self) -> None:
        self._start()

    def copy(self, stdin: int, stdout: int, stderr: int) -> "Copy":
        """A process that runs the code on `stdin`.

        Raises:
            OSError: no process can be started.
        """
        with suppress(OSError):  # the code of an earlier call has killed it
            return self._asked(stdin, stdout, stderr)
        self.end()
        self._start()
        return self._asked(stdin, stdout, stderr)

    def _asked(self, *streams: int) -> "Copy":
        socket.send_fds(self.requests, [b"c"], streams)
        self.requests.settimeout(None)
        if not (pid := self.requests.recv(4)):
            raise OSError("no process could be started for the code")
        return Copy(int.from_bytes(pid, "little"), self)

    def _start(self) -> None:
        self.requests, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            nothing, number = subprocess.DEVNULL, its.fileno()
            self._process = execute.Command(interpreter("template", number), nothing, nothing, nothing, number)
        execute.kept.add(self._process.pid)

    def end(self) -> None:
        """Kill it. A copy that lives on has this process for a parent then."""
        self.requests.close()
        self._process.kill()
        execute.kept.discard(self._process.pid)


class Copy:
    """A copy of the template, which runs one piece of code. See `execute.Process`."""

    def __init__(self, pid: int, template: Template):
        self.pid, self._template = pid, template
        self.returncode: int | None = None

    def wait(self, limit: float | None = None) -> int | None:
        self._template.requests.settimeout(limit)
        try:
            if said := self._template.requests.recv(4):
                self.returncode = int.from_bytes(said, "little", signed=True)
            else:
                self._template.end()
                self.returncode = -signal.SIGKILL
        except TimeoutError:
            pass
        return self.returncode


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    template = Template()  # it starts while the server does

    def python(code: str) -> Result:
        return execute.run_process(template.copy, code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python"])
