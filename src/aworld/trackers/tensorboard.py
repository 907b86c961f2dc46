"""TensorBoard: an event file for each entry. It is published whole, and a repeat replaces it by the same bytes."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from aworld.publish import fsync_dir, sweep
from aworld.trackers.tracker import About, Entry

VERSION = "brain.Event:2"  # of the file format, as each file's first event


class TensorBoard:
    """Event files in `trackers/tensorboard/`: a folder for the rounds, and one for each evaluation."""

    def __init__(self, about: About):
        self._folder = about.folder

    def write(self, entries: Sequence[Entry]) -> None:
        sweep(self._folder)
        for entry in entries:
            part = f"evaluation-{entry.benchmark}" if entry.benchmark else "rounds"
            # TensorBoard takes each file with `tfevents` in its name, in the order of their names.
            self._publish(self._folder / part / f"events.out.tfevents.{entry.step:010d}", _content(entry))

    def _publish(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = (
            self._folder / f".new.tmp-{os.uname().nodename}-{os.getpid()}"
        )  # a name that TensorBoard passes over
        with open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
        fsync_dir(path.parent)


def _content(entry: Entry) -> bytes:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in sorted(entry.figures.items())]
    scalars = Event(wall_time=entry.time, step=entry.step, summary=Summary(value=values))
    memory = io.BytesIO()
    writer = RecordWriter(memory)
    for event in (Event(wall_time=entry.time, file_version=VERSION), scalars):
        writer.write(event.SerializeToString(deterministic=True))
    return memory.getvalue()
