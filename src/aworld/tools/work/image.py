"""A picture's form, what its EXIF says, and what is written in it, by Pillow (MIT-CMU) and RapidOCR (Apache-2.0)."""

import os
import sys
from collections.abc import Iterator
from typing import Any

MOST_PIXELS = 100_000_000  # what fits the memory of an episode


def read_image(path: str) -> Iterator[str]:
    """Lines of text, from top to bottom; pieces of one line are told apart by tabs."""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            sys.exit(f"{path} has {picture.width} x {picture.height} pixels, too many to read")
        frames = getattr(picture, "n_frames", 1)
        more = f", the first of {frames} frames" if frames > 1 else ""
        yield f"{picture.format}, {picture.width} x {picture.height} pixels, {picture.mode}{more}"
        yield from _exif(picture)
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    page = Image.new("RGB", upright.size, "white")
    page.paste(upright, mask=upright)  # on paper, what is transparent is white
    lines = _lines(page)
    yield from ["--- text ---", *lines] if lines else ["(no text found)"]


def _exif(picture: Any) -> Iterator[str]:
    from PIL.ExifTags import GPS, IFD, Base

    exif = picture.getexif()
    inner, place = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
    if taken := inner.get(Base.DateTimeOriginal) or exif.get(Base.DateTime):
        yield f"taken: {taken}"
    if camera := " ".join(str(exif[tag]).strip("\0 ") for tag in (Base.Make, Base.Model) if tag in exif):
        yield f"camera: {camera}"
    for tag, label in ((Base.ImageDescription, "description"), (Base.Artist, "artist"), (Base.Copyright, "copyright")):
        if exif.get(tag):
            yield f"{label}: {exif[tag]}"
    if GPS.GPSLatitude in place and GPS.GPSLongitude in place:
        north = _degrees(place[GPS.GPSLatitude], place.get(GPS.GPSLatitudeRef) == "S")
        east = _degrees(place[GPS.GPSLongitude], place.get(GPS.GPSLongitudeRef) == "W")
        yield f"place: {north:.6f}, {east:.6f}"


def _degrees(parts: Any, negative: bool) -> float:
    """Degrees, minutes and seconds as one number."""
    degrees = sum(float(part) / 60**power for power, part in enumerate(parts))
    return -degrees if negative else degrees


def _lines(page: Any) -> list[str]:
    import numpy

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime would report to its makers
    from rapidocr import RapidOCR

    quiet = {"Global.log_level": "critical", "EngineConfig.onnxruntime.intra_op_num_threads": 1}
    found: Any = RapidOCR(params=quiet)(numpy.asarray(page)[:, :, ::-1])  # it takes blue, green, red
    if found.boxes is None:
        return []
    boxes = numpy.asarray(found.boxes)  # [piece, corner, x and y]
    top, bottom, left = boxes[:, :, 1].min(1), boxes[:, :, 1].max(1), boxes[:, :, 0].min(1)
    lines: list[list[int]] = []
    for piece in numpy.argsort(top + bottom):
        middle = (top[piece] + bottom[piece]) / 2
        if lines and middle < bottom[lines[-1][0]]:
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return ["\t".join(found.txts[piece] for piece in sorted(line, key=left.__getitem__)) for line in lines]
