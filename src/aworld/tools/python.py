"""`python`: each call runs its code in a copy of the server's interpreter. No process outlives a call."""

import sys

from aworld.tools.common import execute, run_code
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer


def start(stdin: int, stdout: int, stderr: int) -> execute.Child:
    """A process that runs the code on `stdin`."""

    def run(output: run_code.Output) -> int:
        return run_code.run(sys.stdin.buffer.read().decode(), run_code.module(), output)

    return run_code.copy(run, (stdin, stdout, stderr))


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()

    def python(code: str) -> Result:
        return execute.run_process(start, code, execute.seconds_of("python"))

    server.add_tool(python, description="Run Python code.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["python"])
