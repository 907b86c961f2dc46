"""`read_document`: what is written in a PDF, an office file, a table or a page, as text; tables as tab-separated lines.

By pypdf (BSD), python-docx, python-pptx and openpyxl (MIT), encodings by chardet (0BSD); the rest by Python itself.
Layout is left out. What is no text is named in brackets, for python or the image tool to look at.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from aworld.tools.common.paths import existing
from aworld.tools.common.result import Result, error, in_parts
from aworld.tools.common.server import ToolServer
from aworld.tools.readers.pdf import pdf
from aworld.tools.readers.sheets import xlsx
from aworld.tools.readers.slides import pptx
from aworld.tools.readers.texts import jsons, page, plain, table
from aworld.tools.readers.word import docx

MAX_BYTES = 50_000_000

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


def read_document(path: str, part: int = 1) -> Result:
    try:
        file = existing(path)
    except ValueError as reason:
        return error(str(reason))
    if file.stat().st_size > MAX_BYTES:
        return error(f"{path} is larger than {MAX_BYTES} bytes; work through it with python")
    try:
        # no more than line ends: a tab is an empty cell
        content = "\n".join(READERS.get(file.suffix.lower(), plain)(file)).strip("\n")
    except UnicodeDecodeError:
        return error(f"{path} is not text, and {file.suffix or 'without a suffix'} is no format known here")
    except Exception as reason:  # whatever a library makes of a damaged file
        return error(f"{path} cannot be read as {file.suffix}: {type(reason).__name__}: {str(reason)[:200]}")
    return in_parts(content if content.strip() else "", part, path)


def add_to(server: ToolServer) -> None:
    server.add_tool(
        read_document,
        description="Read a document (pdf, docx, pptx, xlsx, csv, json, xml, html, txt) as text, part by part.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["documents"])
