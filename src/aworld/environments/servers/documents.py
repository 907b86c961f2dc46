"""`read_document`: what is written in a PDF, an office file, a table or a page, as text; tables as tab-separated lines.

By pypdf (BSD), python-docx, python-pptx and openpyxl (MIT); the rest by Python itself. Layout, pictures, formulas and
scanned pages are left out: those are for python, or for the image tool.
"""

import csv
import html.parser
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers.paths import existing
from aworld.environments.servers.result import error, in_parts

MAX_BYTES = 50_000_000


def pdf(path: Path) -> Iterator[str]:
    import pypdf

    reader = pypdf.PdfReader(path)
    for number, page in enumerate(reader.pages, 1):
        yield f"--- page {number} of {len(reader.pages)} ---"
        yield page.extract_text()


def docx(path: Path) -> Iterator[str]:
    import docx as library
    from docx.table import Table

    for block in library.Document(str(path)).iter_inner_content():
        if isinstance(block, Table):
            yield from _lines([cell.text for cell in row.cells] for row in block.rows)
        elif block.text.strip():
            yield block.text


def pptx(path: Path) -> Iterator[str]:
    import pptx as library

    for number, slide in enumerate(library.Presentation(str(path)).slides, 1):
        yield f"--- slide {number} ---"
        for shape in slide.shapes:
            if shape.has_text_frame and shape.text_frame.text.strip():
                yield shape.text_frame.text
            if getattr(shape, "has_table", False):
                yield from _lines([cell.text for cell in row.cells] for row in shape.table.rows)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame.text.strip():
            yield f"notes: {slide.notes_slide.notes_text_frame.text}"


def xlsx(path: Path) -> Iterator[str]:
    import openpyxl

    for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets:
        yield f"--- sheet {sheet.title} ---"
        rows = (["" if value is None else str(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield from _lines(row for row in rows if any(row))


def table(path: Path) -> Iterator[str]:
    content = _text(path)
    dialect = csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel
    yield from _lines(csv.reader(io.StringIO(content), dialect))


def jsons(path: Path) -> Iterator[str]:
    yield json.dumps(json.loads(_text(path)), indent=1, ensure_ascii=False)


def page(path: Path) -> Iterator[str]:
    yield from page_text(_text(path))


def page_text(markup: str) -> list[str]:
    """The text of HTML, without scripts and styles, a line for each piece."""
    parser = _Page()
    parser.feed(markup)
    return parser.pieces


def plain(path: Path) -> Iterator[str]:
    yield _text(path)


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".pdf": pdf,
    ".docx": docx,
    ".pptx": pptx,
    ".xlsx": xlsx,
    ".xlsm": xlsx,
    ".csv": table,
    ".tsv": table,
    ".json": jsons,
    ".html": page,
    ".htm": page,
}


async def read_document(path: str, part: int = 1) -> CallToolResult:
    try:
        file = existing(path)
    except ValueError as reason:
        return error(str(reason))
    if file.stat().st_size > MAX_BYTES:
        return error(f"{path} is larger than {MAX_BYTES} bytes; work through it with python")
    try:
        content = "\n".join(READERS.get(file.suffix.lower(), plain)(file)).strip()
    except UnicodeDecodeError:
        return error(f"{path} is not text, and {file.suffix or 'without a suffix'} is no format known here")
    except Exception as reason:  # whatever a library makes of a damaged file
        return error(f"{path} cannot be read as {file.suffix}: {type(reason).__name__}: {str(reason)[:200]}")
    return in_parts(content, part, path)


class _Page(html.parser.HTMLParser):
    HIDDEN = ("script", "style", "noscript", "template", "head")

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in self.HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.pieces.append(" ".join(data.split()))


def _lines(rows: object) -> Iterator[str]:
    for row in rows:  # type: ignore[attr-defined]
        yield "\t".join(" ".join(cell.split()) for cell in row)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def add_to(server: MCPServer) -> None:
    server.add_tool(
        read_document,
        description="Read a document (pdf, docx, pptx, xlsx, csv, json, xml, html, txt) as text, part by part.",
        structured_output=False,
    )


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["documents"])
