"""A video's form and single pictures of it, by PyAV (BSD-3)."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST = 20  # pictures of a call


def video_info(path: str) -> Iterator[str]:
    """Lengths, sizes and rates: a line for the file, and one for each stream."""
    import av

    with av.open(path) as container:
        yield f"{container.format.name}, {_length(container):.1f} s"
        streams: Any = container.streams
        for stream in streams:
            if stream.type == "video":
                name, rate, frames = stream.codec_context.name, float(stream.average_rate or 0), stream.frames
                size = f"{stream.width} x {stream.height} pixels"
                yield f"video: {name}, {size}, {rate:.4g} frames/s" + (f", {frames} frames" if frames else "")
            elif stream.type == "audio":
                yield f"sound: {stream.codec_context.name}, {stream.rate} Hz, channels: {stream.channels}"
            else:
                yield f"{stream.type}: {stream.metadata.get('language', 'no language given')}"
        yield from (f"{key}: {value[:200]}" for key, value in container.metadata.items() if key in ("title", "comment"))


def video_frames(path: str, at: list[float], every: float) -> Iterator[str]:
    """Save a picture for each second of `at`, and from the last of them on one `every` so many seconds.

    Yields:
        file, tab, second that it shows
    """
    import av

    with av.open(path) as container:
        if not container.streams.video:
            sys.exit(f"{path} has no pictures")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        length = _length(container)
        wanted = sorted(max(second, 0.0) for second in at)
        if every > 0:
            first = wanted[-1] + every if wanted else 0.0
            wanted += [first + number * every for number in range(MOST) if first + number * every < length]
        for second in (wanted or [0.0])[:MOST]:
            frame = _frame(container, stream, second)
            if frame is None:
                sys.exit(f"{path} has no picture at {second:g} s; it is {length:.1f} s long")
            name = f"{Path(path).stem}-{second:g}s.jpg"
            _save(frame.to_image().rotate(frame.rotation, expand=True), name)  # telephones lie on their side
            yield f"{name}\t{frame.time:.2f} s"


def _length(container: Any) -> float:
    import av

    return float(container.duration or 0) / av.time_base


def _frame(container: Any, stream: Any, second: float) -> Any:
    """The picture that is shown at this second: the last that begins by then; none after the end."""
    container.seek(int(second / stream.time_base) + (stream.start_time or 0), stream=stream)
    shown = None
    for frame in container.decode(stream):
        begins = frame.time - float((stream.start_time or 0) * stream.time_base)
        if shown is not None and begins > second + 1e-6:
            return shown
        shown = frame
    ends = _length(container) or float("inf")
    return shown if second < ends else None


def _save(picture: Any, name: str) -> None:
    """Under this name, in place of a file or link that may be there: never through the link."""
    unfinished = f".{os.getpid()}.jpg"
    with open(unfinished, "xb") as file:
        picture.save(file, "JPEG", quality=90)
    os.replace(unfinished, name)
