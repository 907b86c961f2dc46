"""Run the code on stdin the way a REPL would: `python -I -S run_code.py SITE_PACKAGES LIBRARIES < code`.

It may import Python's own modules, those of the working folder, and of the site packages these libraries, or all where
none are named. The value of a last expression is printed when nothing else was. An error ends it with status 1 and, as
the last line of stderr, the last line of its traceback. Imports little: this file starts once per call.

`run_code.py SITE_PACKAGES LIBRARIES SOCKET` is a session whose variables stay. SOCKET is the number of an open socket.
A request is a length of 8 bytes, then the code; the reply is one byte, `0`, or `1` where the code failed.
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
    packages, libraries, *sockets = sys.argv[1:]
    del sys.argv[1:]
    if libraries:
        sys.meta_path.insert(-1, Libraries(packages.split(":"), libraries.split(":")))  # type: ignore[arg-type]
    else:
        sys.path += packages.split(":")
    sys.path.append("")  # modules that the agent wrote, or was given
    if sockets:
        serve(int(sockets[0]), output)
    else:
        try:
            run(sys.stdin.buffer.read().decode(), module(), output)
        except Exception as error:
            output.flush()
            sys.stderr.write(failure(error))
            sys.exit(1)
