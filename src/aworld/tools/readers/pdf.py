"""PDF, by pypdf."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

DEPTH = 4  # of forms in forms; a damaged file may have one in itself


def pdf(path: Path) -> Iterator[str]:
    import pypdf

    reader = pypdf.PdfReader(path)
    for number, page in enumerate(reader.pages, 1):
        yield f"--- page {number} of {len(reader.pages)} ---"
        text = page.extract_text()
        yield text if text.strip() else f"[page {number} has no text]"
        with suppress(Exception):  # whatever is damaged beside the text does not cost the text
            yield from list(_pictures(page["/Resources"]))
            for note in page.get("/Annots") or []:
                yield from list(_annotation(note.get_object()))


def _pictures(resources: Any, depth: int = 0) -> Iterator[str]:
    """Each in a line, those of forms too."""
    for held in resources["/XObject"].values() if "/XObject" in resources else ():
        found = held.get_object()
        if found.get("/Subtype") == "/Image":
            yield f"[picture {found.get('/Width')}×{found.get('/Height')}]"
        elif found.get("/Subtype") == "/Form" and "/Resources" in found and depth < DEPTH:
            yield from _pictures(found["/Resources"], depth + 1)


def _annotation(note: Any) -> Iterator[str]:
    """A link, what is written in a field, or a comment."""
    action = note.get("/A", {})
    target = action.get_object().get("/URI") if action else None
    if target:
        yield f"[link: {target}]"
    elif note.get("/Subtype") == "/Widget" and isinstance(note.get("/V"), str):
        yield f"[field {note.get('/T', '')}: {note['/V']}]"
    elif note.get("/Contents"):
        yield f"[comment: {note['/Contents']}]"
