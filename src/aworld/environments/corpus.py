"""Index a folder of documents, or a dump, for the search tool."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.progress import track

from aworld.errors import InputError
from aworld.publish import publishing
from aworld.tools.common.result import valid_utf8
from aworld.tools.documents import READERS, plain

# A full-text table finds a page by its words and its rowid alone; `names` finds one by what it is called: its name
# (kind 0), such as its address, before its title (kind 1).
LAYOUT = (
    "CREATE VIRTUAL TABLE pages USING fts5(title, text, name UNINDEXED, tokenize='porter unicode61')",
    "CREATE TABLE names (called TEXT, kind INTEGER, page INTEGER)",
)
BY_NAME = "CREATE INDEX by_name ON names (called, kind, page)"  # made last, in one sorting
TEXTS = (".txt", ".md", ".rst", ".xml")


def index(source: Path, into: Path) -> tuple[int, int]:
    """Write the full-text index of a folder, or of a JSONL file of {"title", "text"} with an optional "url".

    Returns:
        how many pages are in it, and how many files of the folder could not be read.

    Raises:
        InputError: the source is not there, holds nothing, or is no such file.
    """
    if not source.exists():
        raise InputError(f"{source} is not there; give a folder of documents, or a JSONL file of title and text")
    pages, unread = 0, 0
    with publishing(into) as temporary, closing(sqlite3.connect(temporary)) as database:
        database.execute("PRAGMA journal_mode = OFF")  # what is half made is thrown away
        for table in LAYOUT:
            database.execute(table)
        for page in _dump(source) if source.is_file() else _folder(source):
            if page is None:
                unread += 1
                continue
            pages += 1
            title, _, name = page
            database.execute("INSERT INTO pages(rowid, title, text, name) VALUES (?, ?, ?, ?)", (pages, *page))
            database.execute("INSERT INTO names VALUES (?, 0, ?)", (name, pages))
            if title != name:
                database.execute("INSERT INTO names VALUES (?, 1, ?)", (title, pages))
        if not pages:
            raise InputError(f"{source} holds nothing that can be read")
        database.execute(BY_NAME)
        database.execute("INSERT INTO pages(pages) VALUES ('optimize')")
        database.commit()
    return pages, unread


def _dump(path: Path) -> Iterator[tuple[str, str, str]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                page = row["title"], row["text"], row.get("url") or row["title"]
                "".join(page).encode()  # strings, and such as can be written
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{path}, line {number}: not a JSON object with title and text") from None
            yield page


def _folder(root: Path) -> Iterator[tuple[str, str, str] | None]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix.lower() in (*READERS, *TEXTS)]
    for path in track(files, description="reading", disable=not sys.stderr.isatty()):
        try:
            text = "\n".join(READERS.get(path.suffix.lower(), plain)(path))
        except Exception as reason:  # whatever a library makes of a damaged file
            print(f"warning: {path} is left out: {type(reason).__name__}: {str(reason)[:200]}", file=sys.stderr)
            yield None
            continue
        # names that are not UTF-8 and JSON's escapes may hold half a surrogate pair, which no index can
        yield valid_utf8(path.stem), valid_utf8(text), valid_utf8(str(path.relative_to(root)))
