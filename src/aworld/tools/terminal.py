"""`terminal`: a command of bash in the working folder, of which nothing runs on when the call is over."""

from aworld.tools.common import execute
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer


def terminal(command: str) -> Result:
    # the command comes as an option's value: what it starts shall not read it as its input
    return execute.run(
        ("bash", "--noprofile", "--norc", "-c", command), "", execute.seconds_of("terminal"), joined=True
    )


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    server.add_tool(terminal, description="Run a bash command.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["terminal"])
