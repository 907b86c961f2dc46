"""Run the code on stdin the way a REPL would: `python -I -S run_code.py SITE_PACKAGES < code`.

The value of a last expression is printed when nothing else was. An error ends it with status 1 and, as the last line
of stderr, the last line of its traceback. Imports little: this file starts once per call.
"""

import io
import sys
from _ast import Expr, Expression, Module, PyCF_ONLY_AST  # what `ast` wraps, without its 4 ms


class Output(io.TextIOWrapper):
    written = False

    def write(self, text: str) -> int:
        self.written = self.written or bool(text)
        return super().write(text)


def run(code: str, output: Output) -> None:
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    tree = compile(code, "<code>", "exec", PyCF_ONLY_AST)
    assert isinstance(tree, Module)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, Expr):
        tree.body.pop()
    exec(compile(tree, "<code>", "exec"), main.__dict__)
    if isinstance(last, Expr):
        value = eval(compile(Expression(last.value), "<code>", "eval"), main.__dict__)
        if value is not None and not output.written:
            print(repr(value))


if __name__ == "__main__":
    sys.path += [*sys.argv.pop().split(":"), ""]  # "": modules that the agent wrote, or was given
    sys.stdout = output = Output(sys.stdout.buffer, encoding="utf-8", errors="backslashreplace")
    try:
        run(sys.stdin.buffer.read().decode(), output)
    except Exception as error:
        from traceback import format_exception_only

        output.flush()
        sys.stderr.write("".join(format_exception_only(error)))
        sys.exit(1)
