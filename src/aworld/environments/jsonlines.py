"""The lines of a server's stdout, with long strings cut as they come: no message is ever held whole."""

import re
from collections.abc import Iterator

STRING_BYTES = 900_000  # of a string; a text of that size can still be kept in the scratch
LINE_BYTES = 16 << 20  # of what is left of a line
BETWEEN_STRINGS = re.compile(rb'[^"\n]*')
IN_A_STRING = re.compile(rb'(?:[^"\\\n]+|\\[^\n])*+')
OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
ESCAPE_BYTES = 6
NOT_IN_ONE = -1
NOTE = b" [cut: %d more bytes]"


class JsonLines:
    """Feed it blocks as they are read."""

    def __init__(self) -> None:
        self._unread = b""
        self._line = bytearray()
        self._room = NOT_IN_ONE  # bytes that the string at hand may still have
        self._left_out = 0

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The lines that end in this block.

        Raises:
            OverflowError: a line is too long, its strings cut.
        """
        data = self._unread + block
        end = _before_open_escape(data)
        self._unread = data[end:]
        at = 0
        while at < end:
            is_in_one = self._room != NOT_IN_ONE
            piece = (IN_A_STRING if is_in_one else BETWEEN_STRINGS).match(data, at, end)[0]  # type: ignore[index]
            self._line += self._cut(piece) if is_in_one else piece
            at += len(piece)
            mark = data[at : min(at + 1, end)]
            at += 1
            if mark == b"\n":
                yield bytes(self._line)
                self._line.clear()
                self._room, self._left_out = NOT_IN_ONE, 0
            elif mark == b'"':
                self._line += (NOTE % self._left_out if self._left_out else b"") + mark
                self._room, self._left_out = (NOT_IN_ONE if is_in_one else STRING_BYTES), 0
            else:
                self._line += mark
            if len(self._line) > LINE_BYTES:
                raise OverflowError

    def _cut(self, piece: bytes) -> bytes:
        """As much of a piece of a string as there is room for; an escape whole or not at all."""
        kept = piece if len(piece) <= self._room else piece[: _before_open_escape(piece[: self._room])]
        self._left_out += len(piece) - len(kept)
        self._room = self._room - len(kept) if kept is piece else 0
        return kept


def _before_open_escape(data: bytes) -> int:
    """Where an escape begins that the data ends in the middle of; else the data's end."""
    at = data.rfind(b"\\", max(0, len(data) - ESCAPE_BYTES + 1))
    if at < 0 or not OPEN_ESCAPE.fullmatch(data, at):
        return len(data)
    run = at + 1 - len(data[: at + 1].rstrip(b"\\"))
    return at if run % 2 else len(data)
