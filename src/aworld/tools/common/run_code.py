"""Run code the way a REPL would, in a copy of this process that keeps nothing of it but Python itself.

The code may import Python's own modules, those of the working folder, and of the installed packages the libraries that
AWORLD_LIBRARIES names, or all where it is unset. The value of a last expression is printed when nothing else was.
"""

import atexit
import gc
import io
import os
import signal
import site
import sys
import threading
from _ast import Expr, Expression, Module, PyCF_ONLY_AST  # what `ast` wraps, without its 4 ms
from _frozen_importlib import BuiltinImporter, FrozenImporter  # type: ignore[import-not-found]
from _frozen_importlib_external import PathFinder  # type: ignore[import-not-found]
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aworld.tools.common.execute import PR_SET_PDEATHSIG, Child, prctl

PYTHON = str(Path(os.__file__).parent)


class Libraries:
    """Finds these modules, and none else, in folders that are not on the path."""

    def __init__(self, packages: list[str], names: frozenset[str]):
        self.packages, self.names = packages, names

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


def copy(then: Callable[[Output], int], streams: tuple[int, int, int], kept: tuple[int, ...] = ()) -> Child:
    """A copy of this process, which ends with the exit status that `then` returns. It dies with its parent.

    Args:
        then: is given stdout.
        streams: file descriptors of its stdin, stdout and stderr.
        kept: further ones that stay open.

    Raises:
        OSError: no process can be started.
    """
    parent = os.getpid()
    if pid := os.fork():
        return Child(pid)
    status = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            os.setsid()
            output = _opened(streams, kept)
            _forget()
            status = then(output)
            _end()
            output.flush()
    except BaseException as error:
        with suppress(BaseException):
            sys.stderr.write(failure(error))
    finally:
        os._exit(status)


def _opened(streams: tuple[int, int, int], kept: tuple[int, ...]) -> Output:
    """Let these be stdin, stdout and stderr, and close what else is open: the server's own pipes, for one."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number not in kept:
            with suppress(OSError):  # that of the list itself
                os.close(number)
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = output = Output(  # type: ignore[misc]
        os.fdopen(1, "wb", closefd=False), encoding="utf-8", errors="backslashreplace"
    )
    sys.stderr = sys.__stderr__ = os.fdopen(  # type: ignore[misc]
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    return output


def _end() -> None:
    """Do as Python itself at its end: join threads, call what waits for the end, close files that were left open."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.modules["__main__"].__dict__.clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):  # the code may have replaced them
        stream.flush()


def _forget() -> None:
    """Leave of the server's modules and paths what the code may import."""
    packages = site.getsitepackages()
    libraries = frozenset(filter(None, os.environ.get("AWORLD_LIBRARIES", "").split(":")))
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top == "aworld" or (libraries and top not in sys.stdlib_module_names and top not in libraries):
            del sys.modules[name]
    own = [folder for folder in sys.path if folder in (PYTHON, f"{PYTHON}/lib-dynload")]
    sys.path[:] = own if libraries else [*own, *packages]
    sys.path.append("")  # modules that the agent wrote, or was given
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
    if libraries:
        sys.meta_path.insert(2, Libraries(packages, libraries))  # type: ignore[arg-type]
    sys.argv[:] = [""]


def module() -> dict[str, object]:
    """The variables of a new `__main__`."""
    sys.modules["__main__"] = main = type(sys)("__main__")
    return main.__dict__


def run(code: str, variables: dict[str, object], output: Output) -> int:
    """Run code; returns its exit status. Its error is the last line of stderr."""
    output.written = False
    try:
        _run(code, variables, output)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(str(end.code))
        return 1
    except BaseException as error:
        output.flush()
        sys.stderr.write(failure(error))
        return 1
    return 0


def _run(code: str, variables: dict[str, object], output: Output) -> None:
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
    """The last line of a traceback."""
    from traceback import format_exception_only

    return "".join(format_exception_only(error))
