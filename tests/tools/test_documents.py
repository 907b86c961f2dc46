"""Real files, written by other programs than those that read them where there are two."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import docx
import matplotlib
import openpyxl
import pptx
import pytest

from aworld.tools import documents

pytestmark = pytest.mark.unit
ROWS = [["item", "price"], ["apples", "12"], ["pears, ripe", "30"]]
SHOWN = "item\tprice\napples\t12\npears, ripe\t30"


def write_pdf(path: Path) -> None:
    matplotlib.use("pdf")
    from matplotlib import pyplot as plt
    from matplotlib.backends.backend_pdf import PdfPages

    with plt.rc_context({"pdf.fonttype": 42}), PdfPages(path) as pages:
        for words in ("The first page says one.", "The second says two."):
            figure = plt.figure()
            figure.text(0.1, 0.5, words)
            pages.savefig(figure)
            plt.close(figure)


def write_docx(path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("Before the table.")
    table = document.add_table(3, 2)
    for row, cells in zip(table.rows, ROWS, strict=True):
        for cell, words in zip(row.cells, cells, strict=True):
            cell.text = words
    document.add_paragraph("After it.")
    document.save(str(path))


def write_pptx(path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "A title"
    table = slide.shapes.add_table(3, 2, 0, 0, 914400, 914400).table
    for at, cells in enumerate(ROWS):
        for across, words in enumerate(cells):
            table.cell(at, across).text = words
    slide.notes_slide.notes_text_frame.text = "Said, not shown."
    deck.save(str(path))


def write_xlsx(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Stock"
    for row in ROWS:
        book.active.append(row)
    book.create_sheet("Other").append([None, 2.5, True])
    book.save(path)


def write_csv(path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8-sig") as f:
        csv.writer(f).writerows(ROWS)


def write_html(path: Path) -> None:
    path.write_text("<html><head><title>t</title><style>p{}</style></head><body><p>A &amp; b</p><script>no()</script>c")


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.pdf": (write_pdf, "--- page 1 of 2 ---\nThe first page says one.\n--- page 2 of 2 ---\nThe second says two."),
    "a.docx": (write_docx, f"Before the table.\n{SHOWN}\nAfter it."),
    "a.pptx": (write_pptx, f"--- slide 1 ---\nA title\n{SHOWN}\nnotes: Said, not shown."),
    "a.xlsx": (write_xlsx, f"--- sheet Stock ---\n{SHOWN}\n--- sheet Other ---\n\t2.5\tTrue"),
    "a.csv": (write_csv, SHOWN),
    "a.json": (lambda path: path.write_text('{"a":["é"]}'), json.dumps({"a": ["é"]}, indent=1, ensure_ascii=False)),
    "a.html": (write_html, "A & b\nc"),
    "a.xml": (lambda path: path.write_text("<a>1</a>"), "<a>1</a>"),
    "notes": (lambda path: path.write_text("as it is"), "as it is"),
}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str, part: int = 1) -> tuple[str, bool]:
    result = documents.read_document(path, part)
    return result.text, bool(result.is_error)


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_comes_out(name: str, scratch: Path) -> None:
    write, expected = CASES[name]
    write(scratch / name)
    assert read(name) == (expected, False)


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.pptx", "a.xlsx"])
def test_a_damaged_file_is_one_line(name: str, scratch: Path) -> None:
    CASES[name][0](scratch / name)
    (scratch / name).write_bytes((scratch / name).read_bytes()[:100])
    said, is_error = read(name)
    assert is_error and said.startswith(f"{name} cannot be read as {Path(name).suffix}: ") and "\n" not in said


def test_long_documents_come_in_parts_that_add_up(scratch: Path) -> None:
    words = " ".join(map(str, range(5000)))
    (scratch / "long.txt").write_text(words)
    found = ""
    for part in range(1, 4):
        said, is_error = read("long.txt", part)
        assert not is_error
        found += re.sub(r"^\[part .*\]\n", "", said)
    assert found == words
    assert read("long.txt")[0].startswith("[part 1 of 3; go on with part=2]\n0 1 2")
    assert read("long.txt", 4) == ("long.txt has 3 parts, not 4", True)


def test_what_cannot_be_read_is_said(scratch: Path) -> None:
    assert read("../etc/passwd") == ("no file '../etc/passwd'", True)
    (scratch / "a.bin").write_bytes(b"\xff\xfe\x00")
    assert read("a.bin") == ("a.bin is not text, and .bin is no format known here", True)
    (scratch / "empty.txt").touch()
    assert read("empty.txt") == ("(no text in it)", False)
