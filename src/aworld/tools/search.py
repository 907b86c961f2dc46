"""`search` and `open_page`: full text over a corpus, by SQLite's FTS5 (public domain), ranked by its bm25.

AWORLD_CORPUS is a small JSONL file of {"title", "text"}, which is held in memory, or an index of any size that
`aworld corpus` made, which is read where it lies and whose pages can be opened: by title, or by the name that search
shows beside it, which is an address of the dump or a path in the folder.
"""

import json
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from aworld.tools.common.result import Result, error, in_parts, text
from aworld.tools.common.server import ToolServer

SQLITE = b"SQLite format 3\0"
HITS = 3
WORDS = 32  # of a query; the rest is left out
HIT_CHARS = 500
OPENS = "Read a page that search found, by its title, or the address behind it in brackets, part by part."
NAMED = "CASE name WHEN title THEN title ELSE title || ' (' || name || ')' END"
OPEN = "SELECT text FROM pages WHERE rowid = (SELECT page FROM names WHERE called = ? ORDER BY kind, page LIMIT 1)"


class Corpus:
    """A JSONL file of {"title", "text"}, indexed, or an index."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self.is_index = file.read(len(SQLITE)) == SQLITE
        self._heading = NAMED if self.is_index else "title"
        if self.is_index:
            self._db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'by_name'").fetchone():
                raise SystemExit(f"{path} has no index of names; make it anew with aworld corpus")
            return
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE pages USING fts5(title, text, tokenize='porter unicode61')")
        with path.open(encoding="utf-8") as lines:
            rows = (json.loads(line) for line in lines if line.strip())
            self._db.executemany("INSERT INTO pages VALUES (?, ?)", ((row["title"], row["text"]) for row in rows))

    def search(self, query: str) -> list[tuple[str, str]]:
        """Best (heading, text), at most three: pages with every word of the query, else with any of them."""
        words = [f'"{word}"' for word in re.findall(r"\w+", query)[:WORDS]]  # quoted: no word is an operator
        for operator in (" AND ", " OR "):
            sql = f"SELECT {self._heading}, text FROM pages WHERE pages MATCH ? ORDER BY rank LIMIT ?"
            hits = self._db.execute(sql, (operator.join(words), HITS)).fetchall() if words else []
            if hits:
                return hits
        return []

    def page(self, name: str) -> str | None:
        """The text of the page with this name, else of the first with this title."""
        row = self._db.execute(OPEN, (name,)).fetchone()
        return str(row[0]) if row else None


def add_to(server: ToolServer) -> None:
    path = os.environ.get("AWORLD_CORPUS")
    if not path:
        raise SystemExit("the search server needs a corpus: set AWORLD_CORPUS to a JSONL file of title and text")
    corpus = Corpus(Path(path))

    def search(query: str) -> Result:
        hits = corpus.search(query)
        if not hits:
            return error("nothing found")
        return text("\n".join(f"{title}: {' '.join(body.split())[:HIT_CHARS]}" for title, body in hits))

    def open_page(title: str, part: int = 1) -> Result:
        content = corpus.page(title)
        return error(f"no page {title[:100]!r}; search for it") if content is None else in_parts(content, part, title)

    server.add_tool(search, description="Search facts.")
    if corpus.is_index:
        server.add_tool(open_page, description=OPENS)


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["search"])
