"""A server of small tools."""

import asyncio

from aworld.tools.common.result import Result, made, text
from aworld.tools.common.server import ToolServer


def add(left: int, right: float = 0.5, twice: bool = False) -> Result:
    print("a library's greeting")
    return text(str((left + right) * (2 if twice else 1)))


def total(numbers: tuple[float, ...] = ()) -> Result:
    return made(str(sum(numbers)), "sum.txt")


def fail(reason: str = "for\nno reason") -> Result:
    raise RuntimeError(reason)


async def wait(seconds: float) -> Result:
    await asyncio.sleep(seconds)
    return text("waited")


def lie() -> Result:
    return "not a result"  # type: ignore[return-value]


def echo(text: str) -> Result:
    return Result(text)


TOOLS = (add, total, fail, wait, lie, echo)


def serve() -> None:
    server = ToolServer()
    for tool in TOOLS:
        server.add_tool(tool, description=f"Does {tool.__name__}.")
    server.run()


if __name__ == "__main__":
    serve()
