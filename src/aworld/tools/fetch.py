"""`fetch` and `download`: a page of the web as text, part by part, and a file of the web into the working folder.

The text of HTML by trafilatura (Apache-2.0), with links and tables; documents as `read_document` reads them. Pages that
scripts make are for the browser.
"""

import tempfile
from pathlib import Path

from aworld.tools import documents
from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, in_parts, made, write_new
from aworld.tools.common.server import ToolServer
from aworld.tools.readers.texts import page_text

SUFFIXES = {
    "application/pdf": ".pdf",
    "application/json": ".json",
    "text/csv": ".csv",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}


async def fetch(url: str, part: int = 1) -> Result:
    try:
        page = await internet.get(url)
    except internet.WebError as reason:
        return internet.failed(reason)
    try:
        content = readable(page).strip()
    except Exception as reason:  # whatever a library makes of a damaged document
        return error(f"{url} cannot be read as {page.kind}: {type(reason).__name__}: {str(reason)[:200]}")
    return in_parts(content, part, url)


async def download(url: str, name: str = "") -> Result:
    try:
        page = await internet.get(url)
    except internet.WebError as reason:
        return internet.failed(reason)
    wanted = Path(name or page.url.partition("?")[0].rstrip("/")).name or "download"
    try:
        made_as = write_new(Path.cwd(), wanted, page.body)
    except (OSError, ValueError) as reason:
        return error(f"cannot write {wanted!r}: {getattr(reason, 'strerror', None) or reason}")
    return made(f"{len(page.body)} bytes ({page.kind or 'of unknown kind'}) in {made_as}", made_as)


def readable(page: internet.Page) -> str:
    """What is written on it, without what surrounds it.

    Raises:
        Exception: whatever the library for its kind says of a damaged document.
    """
    if page.kind in ("text/html", "application/xhtml+xml", ""):
        import trafilatura

        found = trafilatura.extract(page.body, url=page.url, include_links=True, include_tables=True, favor_recall=True)
        return found or "\n".join(page_text(page.text))
    suffix = SUFFIXES.get(page.kind) or Path(page.url.partition("?")[0]).suffix.lower()
    if suffix in documents.READERS:
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(page.body)
            file.flush()
            return "\n".join(documents.READERS[suffix](Path(file.name)))
    if page.kind.startswith("text/") or page.kind.endswith(("xml", "json", "javascript")):
        return page.text
    return f"(no text: {len(page.body)} bytes of {page.kind}; download it)"


def add_to(server: ToolServer) -> None:
    server.add_tool(fetch, description="Read a web page or document as text, part by part.")
    server.add_tool(download, description="Save a file of the web into the working folder.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["fetch"])
