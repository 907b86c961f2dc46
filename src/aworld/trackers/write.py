"""Bring one tracker up to date: `python -m aworld.trackers.write RUN NAME`.

A process of its own, so that whoever starts it can end it at any moment. An entry is marked as written after the
tracker has it; a process that dies in between is repeated, and the tracker sees to it that nothing is there twice.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from aworld.config import Config
from aworld.errors import AWorldError, InfrastructureError, guarded
from aworld.locks import try_to_hold
from aworld.processes import end_with
from aworld.rundir import RunDir, open_run
from aworld.trackers import figures, state
from aworld.trackers.state import Item, State
from aworld.trackers.tracker import FOLDER, About, Entry, make

BATCH = 20  # entries that are marked together
AGAIN_SECONDS = 5.0  # before what could not be read is read once more


def write(config: Config, run: RunDir, name: str) -> int | None:
    """Write all that the tracker lacks; returns the number of entries. None: another process is writing to it.

    Raises:
        InfrastructureError: the tracker's package failed, or the tracker's state is damaged.
    """
    with try_to_hold(state.lock_of(run, name)) as is_ours:
        if not is_ours:
            return None
        found = state.load(run, name)
        if not (found.add_new(run, run.newest_policy()) or found.left):
            state.note_failure(run, name, "")
            return 0
        state.save(run, name, found)  # the key and the places, before anything is written under them
        about = About(config.name, found.key, run.root / FOLDER / name, figures.settings(config))
        tracker = make(name, about)
        begin = found.written
        while found.left:
            batch = [*_entries(config, run, name, found)]
            if batch:
                try:
                    tracker.write(batch)
                except Exception as error:  # of any kind: the package is not ours, nor is its server
                    raise InfrastructureError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
            found.written = min(found.written + BATCH, len(found.items))
            state.save(run, name, found)
        state.note_failure(run, name, "")
        return found.written - begin


def _entries(config: Config, run: RunDir, name: str, found: State) -> Iterator[Entry]:
    """The next entries; one without figures, as where its files were removed, is left out."""
    items = dict(enumerate(found.left[:BATCH], found.written))
    read = {place: _figures(config, run, item) for place, item in items.items()}
    if failed := [place for place, values in read.items() if isinstance(values, AWorldError)]:
        time.sleep(AGAIN_SECONDS)  # a shared file system may have failed for a moment
        read |= {place: _figures(config, run, items[place]) for place in failed}
    for place, values in read.items():
        item = items[place]
        if isinstance(values, AWorldError):
            mend = f"mend it, then: aworld track {run.root} {name} --anew"
            print(f"warning: left out of tracker {name}: {values}; {mend}", file=sys.stderr)
        elif values:
            yield Entry(place, item.benchmark, item.number, item.time, values)


def _figures(config: Config, run: RunDir, item: Item) -> dict[str, float] | AWorldError:
    """The figures of an item, or the reason why they cannot be read."""
    try:
        if item.benchmark:
            return figures.of_evaluation(run, item.benchmark, item.number)
        return figures.of_round(config, run, item.number)
    except AWorldError as reason:
        return reason


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    config, run = open_run(arguments.run)
    match write(config, run, arguments.name):
        case None:
            print(f"{arguments.name}: another process is writing it")
        case count if count:
            print(f"{arguments.name}: {count} written")


if __name__ == "__main__":
    end_with(lambda: guarded(main))  # packages may ask the internet at the end of Python, and wait
