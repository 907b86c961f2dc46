"""`search`: full text over a small corpus, held in memory by SQLite's FTS5 and ranked by its bm25."""

import json
import os
import re
import sqlite3
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from aworld.environments.servers.result import error, text

HITS = 3
WORDS = 32  # of a query; the rest is left out
HIT_CHARS = 500


class Corpus:
    """A JSONL file of {"title", "text"}, indexed."""

    def __init__(self, path: Path):
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE pages USING fts5(title, text, tokenize='porter unicode61')")
        with path.open(encoding="utf-8") as lines:
            rows = (json.loads(line) for line in lines if line.strip())
            self._db.executemany("INSERT INTO pages VALUES (?, ?)", ((row["title"], row["text"]) for row in rows))

    def search(self, query: str) -> list[tuple[str, str]]:
        """Best (title, text), at most three: pages with every word of the query, else with any of them."""
        words = [f'"{word}"' for word in re.findall(r"\w+", query)[:WORDS]]  # quoted: no word is an operator
        for operator in (" AND ", " OR "):
            sql = "SELECT title, text FROM pages WHERE pages MATCH ? ORDER BY rank LIMIT ?"
            hits = self._db.execute(sql, (operator.join(words), HITS)).fetchall() if words else []
            if hits:
                return hits
        return []


def add_to(server: MCPServer) -> None:
    path = os.environ.get("AWORLD_CORPUS")
    if not path:
        raise SystemExit("the search server needs a corpus: set AWORLD_CORPUS to a JSONL file of title and text")
    corpus = Corpus(Path(path))

    async def search(query: str) -> CallToolResult:
        hits = corpus.search(query)
        if not hits:
            return error("nothing found")
        return text("\n".join(f"{title}: {' '.join(body.split())[:HIT_CHARS]}" for title, body in hits))

    server.add_tool(search, description="Search facts.", structured_output=False)


if __name__ == "__main__":
    from aworld.environments.servers.__main__ import serve

    serve(["search"])
