"""Sheets, by openpyxl: the cells, and before them what a person sees at a glance, such as colours and hidden rows."""

import colorsys
import datetime
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

LARGE = 3 << 20  # bytes of the sheets' XML: about 70,000 cells, all of which takes openpyxl some seconds
BLANK_ROWS = 20  # so many are shown; more in one line
MOST_AREAS = 300  # of one colour or format: every other row of a long table may have one
THEME = ("lt1", "dk1", "lt2", "dk2", *(f"accent{number}" for number in range(1, 7)), "hlink", "folHlink")

Cells = dict[str, list[tuple[int, int]]]  # (row, column) from 1, by what they have in common


def xlsx(path: Path) -> Iterator[str]:
    """All of a book; of one that is large, or whose formats are damaged, the values alone."""
    with zipfile.ZipFile(path) as parts:
        size = sum(one.file_size for one in parts.infolist() if "worksheets/" in one.filename)
    if size > LARGE:
        yield from _values(path, "it is large")
        return
    try:
        shown = list(_whole(path))
    except Exception as reason:  # whatever openpyxl makes of one damaged comment or picture
        shown = list(_values(path, f"{type(reason).__name__}: {' '.join(str(reason).split())[:100]}"))
    yield from shown


def _values(path: Path, why: str) -> Iterator[str]:
    import openpyxl

    yield f"[values alone, {why}; formulas, formats, comments and what is hidden are for python]"
    for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets:
        yield f"--- sheet {sheet.title} ---"
        sheet.reset_dimensions()  # some programs write a size that is not that of the sheet
        yield from _rows(enumerate(([_shown(value) for value in row] for row in sheet.values), 1))


def _whole(path: Path) -> Iterator[str]:
    import openpyxl

    book = openpyxl.load_workbook(path)
    has_formulas = any(cell.data_type == "f" for sheet in book.worksheets for cell in sheet._cells.values())
    values = openpyxl.load_workbook(path, data_only=True) if has_formulas else book  # what the formulas came to
    palette = _theme(book.loaded_theme)
    for sheet in book.worksheets:
        yield f"--- sheet {sheet.title}{'' if sheet.sheet_state == 'visible' else ' (hidden)'} ---"
        yield from _notes(sheet, palette)
        yield from _rows(_numbered(sheet, values[sheet.title]))
    for sheet in book.chartsheets:
        yield f"--- chart sheet {sheet.title} ---"


def _cells(sheet: Any) -> list[Any]:
    """The cells that exist, row by row. Empty rows cost nothing: a sheet may use row 1 and row 1,000,000 alone."""
    return [cell for _, cell in sorted(sheet._cells.items())]


def _numbered(sheet: Any, values: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows and their numbers; a formula is what it came to, or itself where its program did not save that."""
    for number, cells in groupby(_cells(sheet), lambda cell: cell.row):
        row: list[str] = []
        for cell in cells:
            value = cell.value
            if cell.data_type == "f":
                known = values.cell(cell.row, cell.column).value
                value = getattr(value, "text", value) if known is None else known
            row += [""] * (cell.column - 1 - len(row)) + [_shown(value)]
        yield number, row


def _shown(value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return str(value.date())
    return "" if value is None else str(value)


def _rows(numbered: Iterable[tuple[int, list[str]]]) -> Iterator[str]:
    """A line for each row, blank ones as well: a row's number is that of its line. None at the end."""
    last = 0
    for number, row in numbered:
        line = "\t".join(" ".join(cell.split()) for cell in row).rstrip("\t")
        if line:
            blank = number - 1 - last
            yield from [f"[rows {last + 1} to {number - 1} are blank]"] if blank > BLANK_ROWS else [""] * blank
            yield line
            last = number


def _notes(sheet: Any, palette: list[str]) -> Iterator[str]:
    """What is no cell's value, a line for each kind."""
    rows = [number for number, row in sheet.row_dimensions.items() if row.hidden]
    columns = [(one.min, one.max) for one in sheet.column_dimensions.values() if one.hidden and one.min]
    if rows:
        yield f"[hidden rows: {', '.join(_runs(rows))}]"
    if columns:
        yield f"[hidden columns: {', '.join(_area(0, first, 0, last) for first, last in columns)}]"
    if sheet.merged_cells.ranges:
        yield f"[merged: {', '.join(sorted(str(area) for area in sheet.merged_cells.ranges))}]"
    for kind, cells in _formats(sheet, palette).items():
        yield f"[{kind}: {', '.join(_areas(cells))}]"
    for cell in _cells(sheet):
        if cell.hyperlink and (cell.hyperlink.target or cell.hyperlink.location):
            yield f"[link {cell.coordinate}: {cell.hyperlink.target or cell.hyperlink.location}]"
        if cell.comment:
            yield f"[comment {cell.coordinate}: {' '.join(cell.comment.text.split())}]"
    for area in sheet.conditional_formatting:
        yield f"[colours by condition: {area.sqref}]"
    for picture in sheet._images:
        yield f"[picture {picture.width}×{picture.height}{_place(picture.anchor)}]"
    for chart in sheet._charts:
        yield f"[chart{_place(chart.anchor)}]"


def _formats(sheet: Any, palette: list[str]) -> Cells:
    """The cells of each colour and format; the usual ones are left out."""
    found: Cells = defaultdict(list)
    for cell in filter(lambda cell: cell.has_style, _cells(sheet)):
        here = cell.row, cell.column
        if cell.fill.fill_type and (colour := _colour(cell.fill.fgColor, palette)):
            found[f"fill {colour}"].append(here)
        if cell.value is None:
            continue
        if cell.font.color and (colour := _colour(cell.font.color, palette)) not in ("", "000000"):
            found[f"letters {colour}"].append(here)
        if cell.font.strike:
            found["struck through"].append(here)
        if cell.number_format not in ("General", "@"):
            found[f"format {cell.number_format}"].append(here)
    return found


def _colour(colour: Any, palette: list[str]) -> str:
    """RRGGBB; "" where it is the window's own."""
    from openpyxl.styles.colors import COLOR_INDEX

    if colour.type == "rgb":
        return str(colour.rgb)[-6:]
    if colour.type == "indexed":
        return COLOR_INDEX[colour.indexed][-6:] if colour.indexed < len(COLOR_INDEX) else ""
    if colour.type != "theme" or colour.theme >= len(palette):
        return ""
    red, green, blue = (int(palette[colour.theme][at : at + 2], 16) / 255 for at in (0, 2, 4))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    light = light * (1 + colour.tint) if colour.tint < 0 else light + (1 - light) * colour.tint
    return "".join(f"{round(255 * part):02X}" for part in colorsys.hls_to_rgb(hue, light, saturation))


def _theme(theme: bytes | None) -> list[str]:
    """The colours that a theme's numbers mean."""
    found = re.search(rb"<a:clrScheme.*?</a:clrScheme>", theme or b"", re.DOTALL)
    scheme = found[0].decode("utf-8", "replace") if found else ""
    colours = (re.search(rf"<a:{name}>.*?(?:lastClr|srgbClr val)=\"(\w{{6}})\"", scheme, re.DOTALL) for name in THEME)
    return [colour[1].upper() if colour else "000000" for colour in colours] if scheme else []


def _areas(cells: list[tuple[int, int]]) -> list[str]:
    """Names of areas, such as A1:B3, that together are these cells, which come row by row."""
    areas: list[list[int]] = []  # first row, first column, last row, last column
    for row, column in cells:
        if areas and areas[-1][0] == areas[-1][2] == row and areas[-1][3] == column - 1:
            areas[-1][3] = column
        else:
            areas.append([row, column, row, column])
    tall: dict[tuple[int, int], list[list[int]]] = defaultdict(list)  # by their columns
    for area in areas:
        above = tall[area[1], area[3]]
        if above and above[-1][2] == area[0] - 1:
            above[-1][2] = area[2]
        else:
            above.append(area)
    whole = sorted(area for same in tall.values() for area in same)
    more = [f"and {len(whole) - MOST_AREAS} more"] if len(whole) > MOST_AREAS else []
    return [_area(*area) for area in whole[:MOST_AREAS]] + more


def _area(first_row: int, first: int, last_row: int, last: int) -> str:
    from openpyxl.utils import get_column_letter

    begin, end = f"{get_column_letter(first)}{first_row or ''}", f"{get_column_letter(last)}{last_row or ''}"
    return begin if begin == end else f"{begin}:{end}"


def _runs(numbers: list[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [str(first) if first == last else f"{first} to {last}" for first, last in runs]


def _place(anchor: Any) -> str:
    begin = getattr(anchor, "_from", None)
    return f" at {_area(begin.row + 1, begin.col + 1, begin.row + 1, begin.col + 1)}" if begin else ""
