"""`read_file`: the task's attachments, and what the agent's own code wrote, as text."""

from pathlib import Path

from aworld.tools.common.result import Result, error, text
from aworld.tools.common.server import ToolServer

MAX_BYTES = 100_000  # of a file; longer ones are for python to work through
MAX_NAMES = 20


def read_file(path: str) -> Result:
    root = Path.cwd().resolve()
    try:
        file = (root / path).resolve()
        if not (file.is_relative_to(root) and file.is_file()):
            return error(f"no file {path[:100]!r}; there are: {_names(root)}")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return error(f"{path} is larger than {MAX_BYTES} bytes; read it with python")
        return text(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return error(f"{path} is not text; read it with python")
    except (OSError, ValueError, RuntimeError) as reason:  # no permission, a NUL or a loop of links in the path
        return error(f"cannot read {path[:100]!r}: {getattr(reason, 'strerror', None) or reason}")


def _names(root: Path) -> str:
    names = sorted(str(p.relative_to(root)) for p in root.iterdir() if p.is_file())
    more = ", …" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more if names else "none"


def add_to(server: ToolServer) -> None:
    server.add_tool(read_file, description="Read a text file.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["files"])
