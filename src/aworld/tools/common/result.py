"""Results of the tools of this package, and the files they write."""

from pathlib import Path
from typing import NamedTuple

PART_CHARS = 8_000
UNREACHABLE = "the web did not answer"  # what the text begins with where asking again may help
UNANSWERED = "the endpoint did not answer"  # the same of a model that a tool asks, whatever the reason


class Result(NamedTuple):  # a dataclass would cost a server 10 ms of imports
    """The result of a tool call.

    Attributes:
        files: names of the files that the call has put into the working folder.
    """

    text: str
    is_error: bool = False
    files: tuple[str, ...] = ()


def valid_utf8(content: str) -> str:
    """With `?` for each half of a surrogate pair: no UTF-8 has it, and a server that is to write it never answers."""
    return content.encode("utf-8", "replace").decode()


def text(content: str) -> Result:
    return Result(valid_utf8(content))


def error(content: str) -> Result:
    return Result(valid_utf8(content), is_error=True)


def made(content: str, *files: str) -> Result:
    """Text, and the names of files that the call has put into the working folder."""
    return Result(valid_utf8(content), files=tuple(map(valid_utf8, files)))


def in_parts(content: str, part: int, name: str) -> Result:
    """One part of a long text, after a line that says how to have the next: what is cut off a result is its end.

    Part -1 is the last.
    """
    parts = max(1, -(-len(content) // PART_CHARS))
    part = parts if part == -1 else part
    if not 1 <= part <= parts:
        return error(f"{name} has {parts} parts, not {part}")
    shown = content[(part - 1) * PART_CHARS : part * PART_CHARS]
    more = f"[part {part} of {parts}; go on with part={part + 1}]\n" if part < parts else ""
    return text(more + (shown or "(no text in it)"))


def write_new(folder: Path, name: str, content: bytes) -> str:
    """Write a file of this name, or of one like it where there is something already; returns its name.

    Raises:
        OSError: it cannot be written.
    """
    wanted = Path(Path(name).name[:100] or "file")
    for number in range(100):
        free = f"{wanted.stem}-{number}{wanted.suffix}" if number else wanted.name
        try:
            with open(folder / free, "xb") as file:  # x: never through a link
                file.write(content)
            return free
        except FileExistsError:
            continue
    raise FileExistsError(0, f"there are 100 files named like {wanted.name!r}")
