"""The HTML templates of the reports, and what they call."""

import base64
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from aworld.evaluation.trace import spans
from aworld.publish import publishing


def publish_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write a page piece by piece: one of thousands of episodes is large."""
    pages = jinja2.Environment(loader=jinja2.PackageLoader("aworld.evaluation", "."), autoescape=True)
    pages.globals["spans"] = spans
    pages.filters["packed"] = packed
    with publishing(path) as temporary:
        pages.get_template(template).stream(values).dump(str(temporary), encoding="utf-8")


def packed(text: str) -> str:
    """gzip in base64, which a page's own script unpacks when a reader opens the block that holds it."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
