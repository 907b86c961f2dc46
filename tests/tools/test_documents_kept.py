"""What other programs write than those that the readers' own libraries come from: nothing of it may be lost."""

import re
import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from aworld.tools import documents

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str) -> str:
    result = documents.read_document(path)
    assert not result.is_error, result.content
    return result.text


def w(tag: str, *content: str) -> str:
    return f"<w:{tag} {NAMES}>{''.join(content)}</w:{tag}>"


def run(words: str, tag: str = "t") -> str:
    return w("r", f"<w:{tag} xml:space='preserve'>{words}</w:{tag}>")


def control(*content: str) -> str:
    return w("sdt", w("sdtPr"), w("sdtContent", *content))


def cell(*content: str) -> str:
    return w("tc", w("tcPr"), w("p", *content))


def box(words: str) -> str:
    held = w("txbxContent", w("p", run(words)))
    either = f"<mc:Choice Requires='wps'>{held}</mc:Choice><mc:Fallback>{w('pict', held)}</mc:Fallback>"
    return w("r", f"<mc:AlternateContent>{either}</mc:AlternateContent>")


NAMES = nsdecls("w") + ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
BLOCKS = (
    control(w("p", run("A block to fill in."))),
    w("p", run("Name: "), control(run("Ada")), run(".")),
    w("p", run("It is "), w("del", run("four", "delText")), w("ins", run("five"))),
    w("p", w("moveFrom", run("moved")), run("here "), w("moveTo", run("moved"))),
    w("p", w("ins", control(run("Both at once.")))),
    w("p", box("In a box.")),
    w(
        "tbl",
        w("tblPr"),
        w("tblGrid", w("gridCol"), w("gridCol")),
        w("tr", cell(run("item")), control(cell(run("price")))),
        control(w("tr", cell(run("apples")), cell(w("ins", run("12"))))),
        w("tr", w("trPr", w("del")), cell(run("pears", "delText")), cell()),
    ),
)


def test_word_controls_changes_and_boxes(scratch: Path) -> None:
    document = docx.Document()
    document.add_paragraph("First.")
    for block in BLOCKS:
        document.element.body.insert(len(document.element.body) - 1, parse_xml(block))
    document.save("a.docx")
    assert read("a.docx").splitlines() == [
        "First.",
        "A block to fill in.",
        "Name: Ada.",
        "It is five",
        "here moved",
        "Both at once.",
        "In a box.",
        "item\tprice",
        "apples\t12",
    ]


def test_groups_of_shapes(scratch: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 914400, 914400).text_frame.text = "In a group."
    inner = group.shapes.add_group_shape()
    inner.shapes.add_textbox(0, 0, 914400, 914400).text_frame.text = "In a group of that."
    slide.shapes.add_textbox(0, 0, 914400, 914400).text_frame.text = "Alone."
    deck.save("a.pptx")
    assert read("a.pptx") == "--- slide 1 ---\nIn a group.\nIn a group of that.\nAlone."


def test_a_sheet_that_is_larger_than_it_says(scratch: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["item", "price"], ["apples", 12], ["pears", 30]):
        book.active.append(row)
    book.save("whole.xlsx")
    with zipfile.ZipFile("whole.xlsx") as whole, zipfile.ZipFile("a.xlsx", "w") as wrong:
        for name in whole.namelist():
            content = whole.read(name)
            wrong.writestr(name, re.sub(rb'<dimension ref="[A-Z0-9:]*"', b'<dimension ref="A1"', content))
            assert name != "xl/worksheets/sheet1.xml" or b'ref="A1:B3"' in content
    assert read("a.xlsx") == "--- sheet Sheet ---\nitem\tprice\napples\t12\npears\t30"


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("<html><head><title>t</title><body><p>A body without the head's end.", "A body without the head's end."),
        ("<head><title>t</title><meta charset=utf-8><p>Neither of them.</p>", "Neither of them."),
        ("<head><noscript><img src=x></noscript><title>t</title></head><p>Text.</p>", "Text."),
        ("<head><noscript><body><p>An open noscript.</p>", "An open noscript."),
        ("<head><style>p{}</style></head><p>At the end: AT&T", "At the end: AT&T"),
    ],
)
def test_pages_that_leave_tags_out(markup: str, shown: str, scratch: Path) -> None:
    (scratch / "a.html").write_text(markup)
    assert read("a.html") == shown


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("1,5;2,5\n3;4,25\n", "1,5\t2,5\n3\t4,25"),
        ('name;note\nAda;"a; b, c"\n\nBob;x\n', "name\tnote\nAda\ta; b, c\n\nBob\tx"),
        ("name,tags\nAda,a;b\nBob,c\n", "name\ttags\nAda\ta;b\nBob\tc"),
        ('a,"b;c"\nd,"e;f"\n', "a\tb;c\nd\te;f"),
        ("one\ntwo\n", "one\ntwo"),
    ],
)
def test_semicolons_between_fields_and_in_them(content: str, shown: str, scratch: Path) -> None:
    (scratch / "a.csv").write_text(content)
    assert read("a.csv") == shown


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.csv", "Stadt,Preis\nKöln,5 €\n".encode("cp1252"), "Stadt\tPreis\nKöln\t5 €"),
        ("a.txt", "“Köln”".encode("cp1252"), "“Köln”"),
        ("b.txt", "Köln, 東京".encode("utf-16"), "Köln, 東京"),
        ("c", "Köln".encode("utf-16-be").join((b"\xfe\xff", b"")), "Köln"),
        ("a.json", '{"a": "Köln"}'.encode("cp1252"), '{\n "a": "Köln"\n}'),
        ("a.html", '<meta charset="windows-1251"><body>Привет'.encode("cp1251"), "Привет"),
        ("b.html", '<meta charset="of-its-own"><body>Köln'.encode("cp1252"), "Köln"),
        ("a.xml", '<?xml version="1.0" encoding="ISO-8859-2"?><a>Łódź</a>'.encode("iso-8859-2"), "<a>Łódź</a>"),
    ],
)
def test_text_in_other_encodings(name: str, content: bytes, shown: str, scratch: Path) -> None:
    (scratch / name).write_bytes(content)
    assert read(name).endswith(shown)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("b.txt", bytes(range(1, 256))),
        ("c.txt", b"\xff\xfe\0\0" + b"x\xff" * 8),
        ("a.dat", "Köln".encode("cp1252")),
    ],
)
def test_what_is_no_text_is_still_refused(name: str, content: bytes, scratch: Path) -> None:
    (scratch / name).write_bytes(content)
    result = documents.read_document(name)
    assert result.is_error and f"{name} is not text" in result.text
