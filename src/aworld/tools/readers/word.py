"""Word documents, by python-docx, and what it does not look into: notes, comments, boxes, pictures, links."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aworld.tools.readers.charts import chart
from aworld.tools.readers.texts import lines

FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # the same again, for older programs
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
NOTES = {"footnotes": "footnote", "endnotes": "endnote", "comments": "comment"}  # parts, and what each is made of


def docx(path: Path) -> Iterator[str]:
    import docx as library
    from docx.table import Table

    document = library.Document(str(path))
    _settle(document.element.body)
    _mark(document.element.body, document.part)
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield from lines([" ".join(_paragraphs(cell._tc)) for cell in row.cells] for row in block.rows)
        else:
            yield from filter(str.strip, _paragraphs(block._p))
    yield from _beside(document.part)


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


def _mark(body: Any, part: Any) -> None:
    """Put words where a note is referred to, a link leads somewhere, or something is that is no text."""
    from docx.oxml.ns import qn

    for kind in NOTES.values():
        for mark in list(body.iter(qn(f"w:{kind}Reference"))):
            mark.addprevious(_words(f"[{kind} {mark.get(qn('w:id'))}]"))
    for link in list(body.iter(qn("w:hyperlink"))):
        target = part.rels.get(link.get(f"{RELATION}id"))
        if target is not None and target.is_external:
            link.append(_run(f" ({target.target_ref})"))
    for formula in list(body.iter(f"{MATHS}oMath")):
        formula.addprevious(_run("".join(piece.text or "" for piece in formula.iter(f"{MATHS}t"))))
    for drawing in list(body.iter(qn("w:drawing"))):
        drawing.addprevious(_words(" ".join(_drawn(drawing, part))))


def _drawn(drawing: Any, part: Any) -> Iterator[str]:
    """The content of a drawing besides its text, which has paragraphs of its own."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import qn

    about = "".join(named.get("descr") or "" for named in drawing.iter(qn("wp:docPr")))
    for picture in drawing.iter(qn("a:blip")):
        held = part.related_parts.get(picture.get(f"{RELATION}embed"))
        yield f"[picture{_size(held)}{': ' if about else ''}{about}]"
    for found in drawing.iter(f"{C}chart"):
        held = part.related_parts.get(found.get(f"{RELATION}id"))
        yield from chart(parse_xml(held.blob)) if held is not None else ("[chart]",)


def _size(part: Any) -> str:
    from docx.image.exceptions import (
        InvalidImageStreamError,
        UnexpectedEndOfFileError,
        UnrecognizedImageError,
    )

    try:
        return f" {part.image.px_width}×{part.image.px_height}"
    except (AttributeError, InvalidImageStreamError, UnexpectedEndOfFileError, UnrecognizedImageError):
        return ""  # it lies elsewhere, or is of a kind that python-docx does not know, such as SVG


def _beside(part: Any) -> Iterator[str]:
    """Headers and footers, then the notes under the numbers that the text refers to them by."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import qn

    seen = set()
    for relation in part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in ("header", "footer"):
            words = " ".join(" ".join(_paragraphs(parse_xml(relation.target_part.blob))).split())
            if words and (kind, words) not in seen:
                seen.add((kind, words))
                yield f"[{kind}: {words}]"
    for relation in part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind not in NOTES:
            continue
        for note in parse_xml(relation.target_part.blob).iter(qn(f"w:{NOTES[kind]}")):
            words = " ".join(" ".join(_paragraphs(note)).split())
            if words and note.get(qn("w:type")) is None:  # else it is the line above them
                by = f" by {note.get(qn('w:author'))}" if note.get(qn("w:author")) else ""
                yield f"[{NOTES[kind]} {note.get(qn('w:id'))}{by}: {words}]"


def _words(words: str) -> Any:
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    text = OxmlElement("w:t")
    text.text = words
    text.set(qn("xml:space"), "preserve")
    return text


def _run(words: str) -> Any:
    from docx.oxml import OxmlElement

    run = OxmlElement("w:r")
    run.append(_words(words))
    return run


def _paragraphs(block: Any) -> list[str]:
    """What its paragraphs say, those of text boxes and of tables in it too."""
    from docx.oxml.ns import qn

    return [paragraph.text for paragraph in block.iter(qn("w:p"))]
