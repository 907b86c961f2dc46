"""Plain text in whatever encoding, tables in text, and HTML."""

import codecs
import csv
import html.parser
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

MARKUP = (".html", ".htm", ".xml")
TEXTS = (*MARKUP, ".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".log")  # known to be text, in whatever encoding
DECLARED = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)")
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
WESTERN = "cp1252"  # what Windows writes where nothing else is asked for
CODE_PAGES = [f"cp125{number}" for number in range(9)]
ENCODINGS = ["utf-16-le", "utf-16-be", "gb18030", "cp932", "euc-jp", "big5", "cp949", *CODE_PAGES]
SURE = 0.03  # chardet's confidence: for two accents it names any code page that has them


def plain(path: Path) -> Iterator[str]:
    yield decoded(path)


def table(path: Path) -> Iterator[str]:
    content = decoded(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(content)
    yield from lines(csv.reader(io.StringIO(content), delimiter=delimiter))


def jsons(path: Path) -> Iterator[str]:
    yield json.dumps(json.loads(decoded(path)), indent=1, ensure_ascii=False)


def page(path: Path) -> Iterator[str]:
    yield from page_text(decoded(path))


def lines(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A line for each row, its cells between tabs."""
    for row in rows:
        yield "\t".join(" ".join(cell.split()) for cell in row)


def decoded(path: Path) -> str:
    """The text of a file in its own encoding.

    Raises:
        UnicodeDecodeError: it is not text.
    """
    content = path.read_bytes()
    for mark, encoding in MARKS:
        if content.startswith(mark):
            with suppress(UnicodeDecodeError):
                text = content.decode(encoding)
                if "\0" not in text:
                    return text
    failure, text = None, ""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        failure = reason
    kind = path.suffix.lower()
    if not failure and ("\0" not in text or kind not in TEXTS):
        return text
    declared = DECLARED.search(content[:1024]) if kind in MARKUP else None
    if declared:
        with suppress(LookupError, UnicodeDecodeError):
            return content.decode(declared[1].decode())
    likely = guessed(content) if kind in TEXTS else ""
    if not likely and failure:
        raise failure
    return likely or text


def guessed(content: bytes) -> str:
    """The text in its most likely encoding, UTF-16 without a mark among them; "" where it is not text."""
    import chardet

    found = chardet.detect(content, include_encodings=ENCODINGS, prefer_superset=True, compat_names=False)
    encoding = found["encoding"]
    is_sure = encoding is not None and (encoding not in CODE_PAGES or found["confidence"] >= SURE)
    with suppress(UnicodeDecodeError):
        text = content.decode(encoding, "replace") if encoding and is_sure else content.decode(WESTERN)
        return "" if "\0" in text else text
    return ""


def _delimiter(content: str) -> str:
    """The delimiter that every line has equally often, else the one most lines have. Decimal commas do not count."""
    unquoted = [line for line in re.sub(r'"[^"]*"', "", content).splitlines() if line.strip()]
    for mark in "\t;,|":
        counts = {line.count(mark) for line in unquoted}
        if len(counts) == 1 and counts != {0}:
            return mark
    return max(",\t;|", key=lambda mark: sum(mark in line for line in unquoted))


def page_text(markup: str) -> list[str]:
    """The text of HTML, without scripts and styles: a line for each piece, and for each row of a table."""
    parser = _Page()
    parser.feed(markup)
    parser.close()
    parser.end_row()
    return parser.pieces


class _Page(html.parser.HTMLParser):
    HIDDEN = ("script", "style", "noscript", "template")
    OF_HEAD = (*HIDDEN, "head", "title", "meta", "link", "base")

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._row: list[list[str]] = []  # the cells so far of the row at hand
        self._cell: list[str] = []  # the last that began
        self._link = ""
        self._hidden = 0
        self._in_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self.HIDDEN
        if tag == "head":
            self._in_head = True
        elif tag == "body" or (tag not in self.OF_HEAD and self._in_head and not self._hidden):
            self._in_head, self._hidden = False, 0  # </head> may be left out
        given = {name: value or "" for name, value in attrs}
        if tag in ("table", "tr"):
            self.end_row()
        elif tag in ("td", "th"):
            span = given.get("colspan", "1")
            self._cell = []
            self._row += [self._cell, *([] for _ in range(min(int(span), 100) - 1 if span.isdecimal() else 0))]
        elif tag == "a":
            self._link = given["href"] if given.get("href", "").startswith(("http:", "https:")) else ""
        elif tag == "img" and given.get("alt", "").strip():
            self.handle_data(f"[picture: {given['alt']}]")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN and self._hidden > 0
        self._in_head = self._in_head and tag != "head"
        if tag in ("table", "tr"):
            self.end_row()
        elif tag == "a" and self._link:
            self.handle_data(f"({self._link})")
            self._link = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden and not self._in_head and data.strip():
            (self._cell if self._row else self.pieces).append(" ".join(data.split()))

    def end_row(self) -> None:
        if any(self._row):
            self.pieces.append("\t".join(" ".join(cell) for cell in self._row))
        self._row = []
