"""The HTML pages of a run and of its evaluations, and the texts of the episodes that they show.

A page needs nothing from elsewhere. It holds the texts of its episodes packed, where they are small. Else they lie in
files of a folder beside the page, `report/` beside `report.html`, and a script of the page loads the one it needs.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import jinja2

from aworld.evaluation.attempt import Attempt
from aworld.evaluation.trace import spans
from aworld.publish import publishing

WITHIN = 3 << 20  # bytes of text that a page holds itself
PIECE = 8 << 20  # bytes of text in a file beside it; more where the files would be more than PIECES
PIECES = 128


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(loader=jinja2.PackageLoader("aworld.evaluation"), autoescape=True)
    found.globals["spans"] = spans
    found.globals["call"] = call
    found.filters["as_json"] = partial(json.dumps, ensure_ascii=False)
    return found


def publish_page(path: Path, template: str, values: Mapping[str, Any], episodes: Mapping[str, Attempt]) -> None:
    """Write a page, and the texts of its episodes into it or beside it. Holds one text at a time.

    Args:
        episodes: by TASK/ATTEMPT, or another key that the page's links have. The template is given `piece`: by the same
            key, the name of the file with the text; empty where the page holds it.
    """
    folder = path.with_suffix("")
    pieces = divided({key: attempt.text_bytes for key, attempt in episodes.items()})
    for name, keys in pieces.items():
        if name:
            with publishing(folder / name) as temporary, open(temporary, "w", encoding="ascii") as file:
                for key in keys:
                    file.write(call(key, episodes[key]) + "\n")
    place = {key: f"{folder.name}/{name}" if name else "" for name, keys in pieces.items() for key in keys}
    within = {key: episodes[key] for key in pieces.get("", [])}
    with publishing(path) as temporary:
        page = _templates().get_template(template).stream({**values, "piece": place, "within": within})
        page.dump(str(temporary), encoding="utf-8")
    for left in folder.glob("*.js"):
        if left.name not in pieces:
            left.unlink()


def divided(sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """The keys of the texts in each file, by its name. The name is empty where the page holds them all.

    Args:
        sizes: bytes of each text, by its key.
    """
    whole = sum(sizes.values())
    if whole <= WITHIN:
        return {"": list(sizes)}
    size = max(PIECE, -(-whole // PIECES))
    found: dict[str, list[str]] = {}
    for key, end in zip(sizes, accumulate(sizes.values()), strict=True):
        found.setdefault(f"{end // size:03d}.js", []).append(key)
    return found


def call(key: str, attempt: Attempt) -> str:
    """A call of the page's script: it hands over the text of an episode, as gzip in base64."""
    html = str(_templates().get_template("episode.html.j2").module.body(attempt.read()))  # type: ignore[attr-defined]
    packed = base64.b64encode(gzip.compress(html.encode(), 6, mtime=0)).decode()
    return f"text({json.dumps(key)}, {json.dumps(packed)})".replace("<", "\\u003c")
