"""`read_document`: what is written in a PDF, an office file, a table or a page, as text; tables as tab-separated lines.

By pypdf (BSD), python-docx, python-pptx and openpyxl (MIT); the rest by Python itself. Layout, pictures, formulas and
scanned pages are left out: those are for python, or for the image tool.
"""

import codecs
import csv
import html.parser
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers.paths import existing
from aworld.environments.servers.result import error, in_parts

MAX_BYTES = 50_000_000
MARKUP = (".html", ".htm", ".xml")
TEXTS = (*MARKUP, ".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".log")  # known to be text, in whatever encoding
DECLARED = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)")
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # the same again, for older programs


def pdf(path: Path) -> Iterator[str]:
    import pypdf

    reader = pypdf.PdfReader(path)
    for number, page in enumerate(reader.pages, 1):
        yield f"--- page {number} of {len(reader.pages)} ---"
        yield page.extract_text()


def docx(path: Path) -> Iterator[str]:
    import docx as library
    from docx.table import Table

    document = library.Document(str(path))
    _settle(document.element.body)
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield from _lines([" ".join(_paragraphs(cell._tc)) for cell in row.cells] for row in block.rows)
        else:
            yield from filter(str.strip, _paragraphs(block._p))


def _settle(body: Any) -> None:
    """Take the changes as accepted, and out of their wrappings what python-docx does not look into."""
    from docx.oxml.ns import qn

    for mark in list(body.iter(qn("w:del"))):
        if mark.getparent().tag == qn("w:trPr"):  # of a row that is deleted
            row = mark.getparent().getparent()
            row.getparent().remove(row)
    for gone in list(body.iter(*map(qn, ("w:del", "w:moveFrom")), FALLBACK)):
        gone.getparent().remove(gone)
    wrappings = map(qn, ("w:ins", "w:moveTo", "w:sdt", "w:sdtContent", "w:customXml", "w:smartTag", "w:fldSimple"))
    for wrapping in list(body.iter(*wrappings)):
        for child in list(wrapping):
            wrapping.addprevious(child)
        wrapping.getparent().remove(wrapping)


def _paragraphs(block: Any) -> list[str]:
    """What its paragraphs say, those of text boxes and of tables in it too."""
    from docx.oxml.ns import qn

    return [paragraph.text for paragraph in block.iter(qn("w:p"))]


def pptx(path: Path) -> Iterator[str]:
    import pptx as library

    for number, slide in enumerate(library.Presentation(str(path)).slides, 1):
        yield f"--- slide {number} ---"
        for shape in _single(slide.shapes):
            if shape.has_text_frame and shape.text_frame.text.strip():
                yield shape.text_frame.text
            if getattr(shape, "has_table", False):
                yield from _lines([cell.text for cell in row.cells] for row in shape.table.rows)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame.text.strip():
            yield f"notes: {slide.notes_slide.notes_text_frame.text}"


def _single(shapes: Any) -> Iterator[Any]:
    """The shapes, and those of groups."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _single(shape.shapes)
        else:
            yield shape


def xlsx(path: Path) -> Iterator[str]:
    import openpyxl

    for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets:
        yield f"--- sheet {sheet.title} ---"
        sheet.reset_dimensions()  # some programs write a size that is not that of the sheet
        rows = (["" if value is None else str(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield from _lines(row for row in rows if any(row))


def table(path: Path) -> Iterator[str]:
    content = _text(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(content)
    yield from _lines(csv.reader(io.StringIO(content), delimiter=delimiter))


def _delimiter(content: str) -> str:
    """A semicolon where every line has as many of them, and some: what has decimal commas has no others."""
    unquoted = re.sub(r'"[^"]*"', "", content)
    counts = {line.count(";") for line in unquoted.splitlines() if line.strip()}
    return ";" if len(counts) == 1 and counts != {0} else ","


def jsons(path: Path) -> Iterator[str]:
    yield json.dumps(json.loads(_text(path)), indent=1, ensure_ascii=False)


def page(path: Path) -> Iterator[str]:
    yield from page_text(_text(path))


def page_text(markup: str) -> list[str]:
    """The text of HTML, without scripts and styles, a line for each piece."""
    parser = _Page()
    parser.feed(markup)
    parser.close()
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
    HIDDEN = ("script", "style", "noscript", "template")
    OF_HEAD = (*HIDDEN, "head", "title", "meta", "link", "base")

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0
        self._in_head = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in self.HIDDEN
        if tag == "head":
            self._in_head = True
        elif tag == "body" or (tag not in self.OF_HEAD and self._in_head and not self._hidden):
            self._in_head, self._hidden = False, 0  # </head> may be left out

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN and self._hidden > 0
        self._in_head = self._in_head and tag != "head"

    def handle_data(self, data: str) -> None:
        if not self._hidden and not self._in_head and data.strip():
            self.pieces.append(" ".join(data.split()))


def _lines(rows: object) -> Iterator[str]:
    for row in rows:  # type: ignore[attr-defined]
        yield "\t".join(" ".join(cell.split()) for cell in row)


def _text(path: Path) -> str:
    """
    Raises:
        UnicodeDecodeError: it is not text.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoded = content.decode("utf-16")
        if "\0" not in decoded:
            return decoded
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if path.suffix.lower() not in TEXTS or b"\0" in content:
            raise
    declared = DECLARED.search(content[:1024]) if path.suffix.lower() in MARKUP else None
    with suppress(LookupError, UnicodeDecodeError):
        return content.decode(declared[1].decode() if declared else "cp1252")
    return content.decode("cp1252")  # what Windows writes where nothing else is asked for


def add_to(server: MCPServer) -> None:
    server.add_tool(
        read_document,
        description="Read a document (pdf, docx, pptx, xlsx, csv, json, xml, html, txt) as text, part by part.",
        structured_output=False,
    )


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["documents"])
