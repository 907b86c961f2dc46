"""Lines of a fixed width for a full screen: shortened at a word, spread, and shared out among the parts of a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

Lines = list[Text]
AIRY = 30  # lines, from which on there is room for empty ones


@dataclass(frozen=True)
class Part:
    """A part of a page, below its title.

    Attributes:
        draw: makes its lines, of a width and at most so many.
        wanted: how many lines it can use.
        least: without so many it is left out.
    """

    title: Text
    draw: Callable[[int, int], Lines]
    wanted: int
    least: int = 1


def stacked(parts: Sequence[Part], width: int, height: int) -> Lines:
    """The parts below each other. Each has its least number of lines, and the others go round; the last parts are left
    out first. With AIRY lines or more, an empty one is between two parts."""
    shown, gap = list(parts), int(height >= AIRY)
    while shown and sum(1 + gap + min(part.least, part.wanted) for part in shown) - gap > height:
        shown.pop()
    rows = [min(part.least, part.wanted) for part in shown]
    left = height - sum(rows) - len(shown) - gap * (len(shown) - 1)
    while left > 0 and any(has < part.wanted for has, part in zip(rows, shown, strict=True)):
        for at, part in enumerate(shown):
            if left > 0 and rows[at] < part.wanted:
                rows[at] += 1
                left -= 1
    found: Lines = []
    for has, part in zip(rows, shown, strict=True):
        title = fit(part.title, width)
        rule = Text("─" * max(0, width - title.cell_len - 1), "dim")
        found += [Text.assemble(title, " ", rule), *(fit(line, width) for line in part.draw(width, has)[:has])]
        found += [Text()] * gap
    return found[:height]


def beside(left: Lines, right: Lines, width: int, gap: int = 3) -> Lines:
    """Two columns of lines; the left one is `width` wide."""
    rows = max(len(left), len(right))
    pairs = zip(left + [Text()] * (rows - len(left)), right + [Text()] * (rows - len(right)), strict=True)
    return [Text.assemble(one, " " * (width - one.cell_len + gap), other) for one, other in pairs]


def spread(left: Text, right: Text, width: int) -> Text:
    """Two texts at the ends of a line; the left one is shortened."""
    left = fit(left, max(0, width - right.cell_len - 2))
    return Text.assemble(left, " " * (width - left.cell_len - right.cell_len), right)


def fit(line: Text, width: int) -> Text:
    """The line, or its first whole words and an ellipsis where it is wider. Several lines become one."""
    if "\n" in line.plain or "\t" in line.plain:
        line = Text(" ").join(line.split())
        line.expand_tabs(1)
    if line.cell_len <= width:
        return line
    end = 0  # of the words that fit
    for at, sign in enumerate(line.plain):
        if cell_len(line.plain[:at]) > width - 2:
            break
        if sign == " ":
            end = at
    if not line.plain[:end].strip():  # one long word, such as a path
        short = line.copy()
        short.truncate(width, overflow="ellipsis")
        return short
    return Text.assemble(line[:end], (" …", "dim"))


def columns(rows: Sequence[Sequence[Text]]) -> Lines:
    """Cells below each other, as wide as the widest one of their column; a column without any text takes no room."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    found = []
    for row in rows:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            if width:
                line.append_text(cell).append(" " * (width - cell.cell_len + 2))
        line.rstrip()
        found.append(line)
    return found
