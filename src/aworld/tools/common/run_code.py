"""Run code the way a REPL would: `python -I -S run_code.py SITE_PACKAGES LIBRARIES template|session SOCKET`.

The code may import Python's own modules, those of the working folder, and of the site packages these libraries, or all
where none are named. The value of a last expression is printed when nothing else was. Imports little: a sandbox that
runs one piece of code starts this file for it. SOCKET is the number of an open socket.

A template runs each piece of code in a copy of itself: that costs less than half of an interpreter's start. A request
is one byte with three file descriptors: stdin, which holds the code, stdout and stderr. The first reply is the process
id of the copy, the second its exit status or, below zero, the signal that ended it; both have 4 bytes. An error ends
the copy with status 1 and, as the last line of stderr, the last line of its traceback.

The variables of a session stay. A request is a length of 8 bytes, then the code; the reply is one byte, `0`, or `1`
where the code failed.
"""

import io
import sys
from _ast import Expr, Expression, Module, PyCF_ONLY_AST  # what `ast` wraps, without its 4 ms
from _frozen_importlib_external import PathFinder  # type: ignore[import-not-found]


class Libraries:
    """Finds these modules, and none else, in folders that are not on the path."""

    def __init__(self, packages: list[str], names: list[str]):
        self.packages, self.names = packages, frozenset(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        # mypyc puts what it compiles into a module of its own, with a number for a name
        wanted = path is None and (name in self.names or name.endswith("__mypyc"))
        return PathFinder.find_spec(name, self.packages) if wanted else None

    def find_distributions(self, context: object) -> object:
        """Lets a library find its own version."""
        from importlib.metadata import DistributionFinder

        name = getattr(context, "name", None)
        return PathFinder.find_distributions(DistributionFinder.Context(name=name, path=self.packages))


class Output(io.TextIOWrapper):
    written = False

    def write(self, text: str) -> int:
        self.written = self.written or bool(text)
        return super().write(text)


def module() -> dict[str, object]:
    """The variables of a new `__main__`."""
    sys.modules["__main__"] = main = type(sys)("__main__")
    return main.__dict__


def run(code: str, variables: dict[str, object], output: Output) -> None:
    output.written = False
    tree = compile(code, "<code>", "exec", PyCF_ONLY_AST)
    assert isinstance(tree, Module)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, Expr):
        tree.body.pop()
    exec(compile(tree, "<code>", "exec"), variables)
    if isinstance(last, Expr):
        value = eval(compile(Expression(last.value), "<code>", "eval"), variables)
        if value is not None and not output.written:
            print(repr(value))


def failure(error: BaseException) -> str:
    from traceback import format_exception_only

    return "".join(format_exception_only(error))


def _children() -> list[int]:
    import os

    with open(f"/proc/self/task/{os.getpid()}/children") as pids:
        return [int(pid) for pid in pids.read().split()]


def copied(socket: int) -> None:
    """Make a copy of this process for each request. Returns in the copies alone."""
    import os
    from _socket import CMSG_SPACE
    from _socket import socket as Socket
    from ctypes import CDLL
    from gc import freeze

    prctl, PR_SET_PDEATHSIG, SIGKILL = CDLL(None).prctl, 1, 9  # noqa: N806
    freeze()  # a copy that ends need not look at what it shares
    requests = Socket(fileno=socket)
    while (message := requests.recvmsg(1, CMSG_SPACE(12)))[0]:
        streams = memoryview(message[1][0][2]).cast("i").tolist()
        if (pid := os.fork()) == 0:
            requests.close()
            prctl(PR_SET_PDEATHSIG, SIGKILL)
            os.setsid()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return
        for stream in streams:
            os.close(stream)
        requests.send(pid.to_bytes(4, "little"))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        while children := _children():  # which the code made by CLONE_PARENT
            for child in children:
                os.kill(child, SIGKILL)
                os.waitpid(child, 0)
        requests.send(status.to_bytes(4, "little", signed=True))
    sys.exit()


def serve(socket: int, output: Output) -> None:
    import os
    from signal import SIG_IGN, SIGINT, default_int_handler, signal

    variables = module()
    with open(socket, "rb") as pieces:
        while size := pieces.read(8):
            code, failed = pieces.read(int.from_bytes(size, "big")).decode(), b"0"
            try:
                try:
                    signal(SIGINT, default_int_handler)  # how it is told that its time is up
                    run(code, variables, output)
                finally:
                    signal(SIGINT, SIG_IGN)
                    output.flush()
            except SystemExit as end:
                if end.code not in (None, 0):
                    failed = b"1"
                    sys.stderr.write(f"exit status {end.code}" if isinstance(end.code, int) else str(end.code))
            except BaseException as error:
                failed = b"1"
                sys.stderr.write(failure(error))
            sys.stderr.flush()
            os.write(socket, failed)


if __name__ == "__main__":
    sys.stdout = output = Output(sys.stdout.buffer, encoding="utf-8", errors="backslashreplace")
    packages, libraries, kind, socket = sys.argv[1:]
    del sys.argv[1:]
    if libraries:
        sys.meta_path.insert(-1, Libraries(packages.split(":"), libraries.split(":")))  # type: ignore[arg-type]
    else:
        sys.path += packages.split(":")
    sys.path.append("")  # modules that the agent wrote, or was given
    if kind == "session":
        serve(int(socket), output)
    else:
        copied(int(socket))
        try:
            run(sys.stdin.buffer.read().decode(), module(), output)
        except Exception as error:
            output.flush()
            sys.stderr.write(failure(error))
            sys.exit(1)
