"""What a document holds besides its text: it is shown, or named in brackets, and nothing is moved or changed."""

import datetime
import io
import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
import pypdf
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from openpyxl.comments import Comment
from openpyxl.drawing.image import Image as SheetImage
from openpyxl.formatting.rule import CellIsRule
from openpyxl.styles import Color, Font, PatternFill
from PIL import Image
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pypdf.annotations import FreeText, Link

from aworld.tools import documents

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str) -> list[str]:
    result = documents.read_document(path)
    assert not result.is_error, result.content
    return result.text.split("\n")


def picture() -> io.BytesIO:
    content = io.BytesIO()
    Image.new("RGB", (32, 20), "red").save(content, "png")
    content.seek(0)
    return content


def saved(book: openpyxl.Workbook) -> list[str]:
    book.save("a.xlsx")
    return read("a.xlsx")


def test_colours_of_a_sheet() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for name in ("A1", "B1", "A2", "B2", "D2", "D3"):
        sheet[name].fill = PatternFill("solid", fgColor="FF00FF00")
    sheet["C1"].fill = PatternFill("solid", fgColor=Color(theme=4))
    sheet["C2"].fill = PatternFill("solid", fgColor=Color(theme=4, tint=-0.5))
    sheet["C3"].fill = PatternFill("solid", fgColor=Color(indexed=10))
    sheet["A1"].value, sheet["D3"].value = "START", "END"
    sheet["D3"].font = Font(color="FFFF0000", strike=True)
    sheet.conditional_formatting.add("A1:B9", CellIsRule("lessThan", ["0"], fill=PatternFill(bgColor="FFFF0000")))
    assert saved(book) == [
        "--- sheet Sheet ---",
        "[fill 00FF00: A1:B2, D2:D3]",
        "[fill 4F81BD: C1]",
        "[fill 254061: C2]",
        "[fill FF0000: C3]",
        "[letters FF0000: D3]",
        "[struck through: D3]",
        "[colours by condition: A1:B9]",
        "START",
        "",
        "\t\t\tEND",
    ]


def test_what_is_hidden_or_beside_the_cells_of_a_sheet() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["a", "b", "c"])
    sheet.append([1, 2, "=A2+B2"])
    sheet.append([])
    sheet.append([0.125, datetime.datetime(2023, 3, 5), "site"])
    sheet["A4"].number_format, sheet["B4"].number_format = "0.0%", "dd/mm/yyyy"
    sheet["C4"].hyperlink = "https://example.org/x"
    sheet["A1"].comment = Comment("the secret\nis 42", "Ann")
    for row in (2, 3, 9):
        sheet.row_dimensions[row].hidden = True
    sheet.column_dimensions["B"].hidden = True
    sheet.merge_cells("A6:B7")
    sheet["A6"] = "merged"
    sheet.add_image(SheetImage(picture()), "D2")
    book.create_sheet("Secret")["B2"] = 7
    book["Secret"].sheet_state = "veryHidden"
    assert saved(book) == [
        "--- sheet Sheet ---",
        "[hidden rows: 2 to 3, 9]",
        "[hidden columns: B]",
        "[merged: A6:B7]",
        "[format 0.0%: A4]",
        "[format dd/mm/yyyy: B4]",
        "[comment A1: the secret is 42]",
        "[link C4: https://example.org/x]",
        "[picture 32×20 at D2]",
        "a\tb\tc",
        "1\t2\t=A2+B2",
        "",
        "0.125\t2023-03-05\tsite",
        "",
        "merged",
        "--- sheet Secret (hidden) ---",
        "",
        "\t7",
    ]


def test_a_formula_is_what_its_program_made_of_it() -> None:
    book = openpyxl.Workbook()
    book.active.append([1, 2, "=A1+B1"])
    book.save("a.xlsx")
    with zipfile.ZipFile("a.xlsx") as given, zipfile.ZipFile("b.xlsx", "w") as known:
        for name in given.namelist():
            known.writestr(name, given.read(name).replace(b"<v></v>", b"<v>3</v>").replace(b"<v />", b"<v>3</v>"))
    assert read("b.xlsx")[1] == "1\t2\t3"


def test_far_apart_cells_take_no_room() -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A3"], book.active["B1048576"] = "first", "third", "last"
    assert saved(book)[1:] == ["first", "", "third", "[rows 4 to 1048575 are blank]", "\tlast"]


def test_a_large_sheet_is_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from aworld.tools.readers import sheets

    monkeypatch.setattr(sheets, "LARGE", 100)
    book = openpyxl.Workbook()
    book.active.append(["x", 1])
    book.active.append([])
    book.active.append(["y", 2])
    shown = saved(book)
    assert shown[0].startswith("[values alone, it is large; ")
    assert shown[1:] == ["--- sheet Sheet ---", "x\t1", "", "y\t2"]


def test_the_colours_of_a_long_table_do_not_come_before_all_of_its_rows() -> None:
    book = openpyxl.Workbook()
    for number in range(1, 1000):
        book.active.append([number])
        book.active.cell(number, 1).fill = PatternFill("solid" if number % 2 else None, fgColor="FF00FF00")
    notes = saved(book)[1]
    assert notes.startswith("[fill 00FF00: A1, A3, A5, ") and notes.endswith(", A599, and 200 more]")


def test_a_damaged_comment_does_not_cost_the_cells() -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A1"].comment = 7, Comment("note", "Ann")
    book.save("a.xlsx")
    with zipfile.ZipFile("a.xlsx") as given, zipfile.ZipFile("b.xlsx", "w") as damaged:
        for name in given.namelist():
            damaged.writestr(name, b"<comments>" if "comment1.xml" in name else given.read(name))
    shown = read("b.xlsx")
    assert shown[0].startswith("[values alone, ") and shown[1:] == ["--- sheet Sheet ---", "7"]


def test_notes_comments_links_pictures_and_headers_of_word(scratch: Path) -> None:
    document = docx.Document()
    noted = document.add_paragraph("Snails ")
    noted._p.append(parse_xml(f"<w:r {nsdecls('w')}><w:footnoteReference w:id='2'/></w:r>"))
    notes = (
        f"<w:footnotes {nsdecls('w')}><w:footnote w:type='separator' w:id='0'><w:p/></w:footnote>"
        "<w:footnote w:id='2'><w:p><w:r><w:t>Since 1887.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    )
    part = Part(PackURI("/word/footnotes.xml"), "application/xml", notes.encode(), document.part.package)
    document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
    said = document.add_paragraph("Said.")
    document.add_comment(said.runs, "Is it?", author="Bob")
    rid = document.part.relate_to("https://example.org/x", RELATIONSHIP_TYPE.HYPERLINK, is_external=True)
    link = f"<w:hyperlink {nsdecls('w', 'r')} r:id='{rid}'><w:r><w:t>here</w:t></w:r></w:hyperlink>"
    document.add_paragraph("Look ")._p.append(parse_xml(link))
    document.add_picture(picture())
    maths = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    document.add_paragraph()._p.append(parse_xml(f"<m:oMath xmlns:m='{maths}'><m:r><m:t>x+1</m:t></m:r></m:oMath>"))
    document.sections[0].header.paragraphs[0].text = "Draft"
    document.sections[0].footer.paragraphs[0].text = "page of many"
    document.save("a.docx")
    shown = read("a.docx")
    assert shown[:5] == [
        "Snails [footnote 2]",
        "Said.[comment 0]",
        "Look here (https://example.org/x)",
        "[picture 32×20]",
        "x+1",
    ]
    beside = ["[header: Draft]", "[footer: page of many]", "[footnote 2: Since 1887.]", "[comment 0 by Bob: Is it?]"]
    assert sorted(shown[5:]) == sorted(beside)


def test_pictures_charts_links_and_hidden_slides() -> None:
    deck = pptx.Presentation()
    first, second = (deck.slides.add_slide(deck.slide_layouts[6]) for _ in range(2))
    first.shapes.add_picture(picture(), 0, 0)._element.nvPicPr.cNvPr.set("descr", "a crab")
    words = first.shapes.add_textbox(0, 0, 9, 9).text_frame.paragraphs[0].add_run()
    words.text, words.hyperlink.address = "click", "https://example.org/x"
    second._element.set("show", "0")
    second.notes_slide.notes_text_frame.text = "Not shown."
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("Sold", (19.2, 21.4))
    chart = second.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 9, 9, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "By region"
    deck.save("a.pptx")
    assert read("a.pptx") == [
        "--- slide 1 ---",
        "[picture 32×20: a crab]",
        "click (https://example.org/x)",
        "--- slide 2 (hidden) ---",
        "[chart: By region]",
        "Sold: East=19.2, West=21.4",
        "notes: Not shown.",
    ]


def test_pages_of_a_pdf_without_text_and_what_is_on_them(scratch: Path) -> None:
    Image.new("RGB", (32, 20), "red").save("scan.pdf")
    assert read("scan.pdf") == ["--- page 1 of 1 ---", "[page 1 has no text]", "[picture 32×20]"]
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_annotation(0, Link(rect=(0, 0, 9, 9), url="https://example.org/x"))
    writer.add_annotation(0, FreeText(rect=(0, 0, 9, 9), text="Wrong!"))
    writer.write("a.pdf")
    assert read("a.pdf")[1:] == ["[page 1 has no text]", "[link: https://example.org/x]", "[comment: Wrong!]"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("name\tprice\nA, Inc\t1\n", "name\tprice\nA, Inc\t1"),
        ("name\tprice\nA\n", "name\tprice\nA"),
        ("a|b\nc|d", "a\tb\nc\td"),
        ("a,b|c\nd,e", "a\tb|c\nd\te"),
        (",b\n1,2", "\tb\n1\t2"),
    ],
)
def test_what_is_between_the_fields_of_a_csv(content: str, shown: str, scratch: Path) -> None:
    (scratch / "a.csv").write_text(content)
    assert "\n".join(read("a.csv")) == shown


TABLE = "<table><tr><th>a</th><th></th><th colspan=2>c</th></tr><tr><td>1<td>2<br>3<td><td><p>4</p></table>after"
NESTED = "<table><tr><td>out<table><tr><td>in<td>too</table></td></tr></table>"


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        (TABLE, ["a\t\tc\t", "1\t2 3\t\t4", "after"]),
        (NESTED, ["out", "in\ttoo"]),
        ("<a href='https://example.org/x'>here</a> <a href='#top'>up</a>", ["here", "(https://example.org/x)", "up"]),
        ("<img src=x alt='A crab'><img src=y>", ["[picture: A crab]"]),
    ],
)
def test_tables_links_and_pictures_of_a_page(markup: str, shown: list[str], scratch: Path) -> None:
    (scratch / "a.html").write_text(markup)
    assert read("a.html") == shown


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("名字,价格\n苹果,3", "gbk"),
        ("名前,値段\nりんご,3", "shift_jis"),
        ("名前と値段の表です", "euc_jp"),
        ("名字,價格\n蘋果,3", "big5"),
        ("이름,가격\n사과,3", "euc_kr"),
        ("Имя,Цена\nЯблоко,3", "cp1251"),
        ("Imię,Wiek\nŁukasz,3\nŻółć,4", "cp1250"),
        ("Name,Preis\nKöln,5", "utf-16-le"),
        ("Name,Preis\nKöln,5", "utf-16-be"),
        ("名字,价格\n苹果,3", "utf-16-le"),
        ("Año,País\n2020,España", "cp1252"),
        ("Prénom;Âge\nHélène;3", "cp1252"),
        ("25 °C ± 3 µm", "cp1252"),
    ],
)
def test_encodings_without_a_mark(words: str, encoding: str, scratch: Path) -> None:
    (scratch / "a.txt").write_bytes(words.encode(encoding))
    assert "\n".join(read("a.txt")) == words
