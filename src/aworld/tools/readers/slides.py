"""Slides, by python-pptx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aworld.tools.readers.charts import A, chart
from aworld.tools.readers.texts import lines

DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
P_TEXT = "{http://schemas.openxmlformats.org/presentationml/2006/main}text"
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def pptx(path: Path) -> Iterator[str]:
    import pptx as library

    for number, slide in enumerate(library.Presentation(str(path)).slides, 1):
        yield f"--- slide {number}{' (hidden)' if slide._element.get('show') == '0' else ''} ---"
        for shape in _single(slide.shapes):
            yield from _shape(shape, slide.part)
        yield from _comments(slide.part)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame:
            words = slide.notes_slide.notes_text_frame.text
            yield from [f"notes: {words}"] if words.strip() else []


def _shape(shape: Any, part: Any) -> Iterator[str]:
    if shape.has_text_frame and shape.text_frame.text.strip():
        links = [run.hyperlink.address for paragraph in shape.text_frame.paragraphs for run in paragraph.runs]
        yield shape.text_frame.text + "".join(f" ({link})" for link in dict.fromkeys(links) if link)
    if shape.has_table:
        yield from lines([cell.text for cell in row.cells] for row in shape.table.rows)
    if shape.has_chart:
        yield from chart(shape.chart._chartSpace)
    if shape._element.tag.endswith("}pic"):
        about = shape._element.nvPicPr.cNvPr.get("descr", "")
        yield f"[picture{_size(shape)}{': ' if about else ''}{about}]"
    for diagram in shape._element.iter(DIAGRAM):
        yield from _texts(part.related_part(diagram.get(f"{RELATION}dm")), "diagram")


def _single(shapes: Any) -> Iterator[Any]:
    """The shapes, and those of groups."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _single(shape.shapes)
        else:
            yield shape


def _size(picture: Any) -> str:
    try:
        width, height = picture.image.size
        return f" {width}×{height}"
    except (ValueError, OSError, KeyError):
        return ""  # it lies elsewhere, or is of a kind that Pillow does not know


def _comments(part: Any) -> Iterator[str]:
    for relation in part.rels.values():
        if relation.reltype.rpartition("/")[2] == "comments" and not relation.is_external:
            yield from _texts(relation.target_part, "comment")


def _texts(part: Any, kind: str) -> Iterator[str]:
    """The words of a part that python-pptx does not read."""
    from pptx.oxml import parse_xml

    pieces = parse_xml(part.blob).iter(f"{A}t", P_TEXT)
    yield f"[{kind}: {' | '.join(piece.text for piece in pieces if piece.text)}]"
