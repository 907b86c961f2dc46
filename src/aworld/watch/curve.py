"""A curve in a terminal, of braille dots: two columns and four rows of them in each character."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isclose

from rich.text import Text

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of a character; U+2800 has none
BLANK = 0x2800
Points = Sequence[tuple[float, float]]


def curve(line: Points, marks: Mapping[str, Points], last: float, width: int, height: int) -> list[Text]:
    """A line through points and signs on top of it, with the largest and the smallest value beside it; none where
    these take all the room.

    Args:
        line: in the order of x, which begins at 0.
        marks: points by their sign, such as ◆.
        last: the largest x.
        width, height: in characters; at least 2 high.
    """
    values = [y for points in (line, *marks.values()) for _, y in points]
    low, high = min(values), max(values)
    if isclose(low, high, abs_tol=1e-9):
        low, high = max(min(low, 0.0), low - 0.05), high + 0.05
    labels = [f"{value:.2f}" for value in (high, low)]
    margin = max(map(len, labels)) + 2
    columns = width - margin
    if columns < 1:
        return []
    across, down = 2 * columns - 1, 4 * height - 1

    def place(x: float, y: float) -> tuple[int, int]:
        return round(x / max(last, 1) * across), round((high - y) / (high - low) * down)

    cells = [[BLANK] * columns for _ in range(height)]
    for column, row in _joined([place(*point) for point in line]):
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    shown = [[(" " if cell == BLANK else chr(cell), "cyan") for cell in row] for row in cells]
    for sign, points in marks.items():
        for column, row in (place(*point) for point in points):
            shown[row // 4][column // 2] = (sign, "bold yellow")
    edges = [f"{labels[0]:>{margin - 2}} ┤", *[" " * (margin - 1) + "│"] * (height - 2), f"{labels[1]:>{margin - 2}} ┤"]
    return [Text.assemble((edge, "dim"), *row) for edge, row in zip(edges, shown, strict=True)]


def _joined(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The dots of straight lines from each place to the next."""
    found = places[:1]
    for (x, y), (to_x, to_y) in pairwise(places):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        shares = [at / steps for at in range(1, steps + 1)]
        found += [(round(x + (to_x - x) * share), round(y + (to_y - y) * share)) for share in shares]
    return found
