"""The numbers that a chart of an office file shows: it holds them beside the picture."""

from collections.abc import Iterator
from typing import Any

C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def chart(space: Any) -> Iterator[str]:
    """Of a c:chartSpace: its title, and a line for each series."""
    title = "".join(piece.text or "" for found in space.iter(f"{C}title") for piece in found.iter(f"{A}t"))
    yield f"[chart: {title}]" if title else "[chart]"
    for series in space.iter(f"{C}ser"):
        name = " ".join(_points(series, "tx")) or "series"
        across = _points(series, "cat") or _points(series, "xVal")
        values = _points(series, "val") or _points(series, "yVal")
        pairs = [f"{label}={value}" for label, value in zip(across, values, strict=False)]
        yield f"{name}: {', '.join(pairs or values)}"


def _points(series: Any, kind: str) -> list[str]:
    return [point.text or "" for found in series.findall(f"{C}{kind}") for point in found.iter(f"{C}v")]
