"""Bring one tracker up to date: `python -m aworld.trackers.write RUN NAME`.

A process of its own, so that whoever starts it can end it at any moment. An entry is marked as written after the
tracker has it; a process that dies in between is repeated, and the tracker sees to it that nothing is there twice.
"""

import argparse
import sys
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


def write(config: Config, run: RunDir, name: str) -> int:
    """Write all that the tracker lacks; returns the number of entries.

    Nothing is done where another process is at it.

    Raises:
        InfrastructureError: the tracker's package failed.
    """
    with try_to_hold(run.root / FOLDER / f"{name}.lock") as is_ours:
        if not is_ours:
            return 0
        found = state.load(run, name)
        if not (found.add_new(run) or found.left):
            return 0
        state.save(run, name, found)  # the key and the places, before anything is written under them
        about = About(config.name, found.key, run.root / FOLDER / name, figures.settings(config))
        tracker = make(name, about)
        begin = found.written
        while found.left:
            batch = [*_entries(config, run, found)]
            if batch:
                try:
                    tracker.write(batch)
                except Exception as error:  # of any kind: the package is not ours, nor is its server
                    raise InfrastructureError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
            found.written = min(found.written + BATCH, len(found.items))
            state.save(run, name, found)
        return found.written - begin


def _entries(config: Config, run: RunDir, found: State) -> Iterator[Entry]:
    """The next entries; one without figures, as where its files were removed, is left out."""
    for place, item in enumerate(found.left[:BATCH], found.written):
        try:
            values = _figures(config, run, item)
        except AWorldError as reason:
            print(f"warning: left out of the trackers: {reason}", file=sys.stderr)
            continue
        if values:
            yield Entry(place, item.benchmark, item.number, item.time, values)


def _figures(config: Config, run: RunDir, item: Item) -> dict[str, float]:
    if item.benchmark:
        return figures.of_evaluation(run, item.benchmark, item.number)
    return figures.of_round(config, run, item.number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    config, run = open_run(arguments.run)
    if count := write(config, run, arguments.name):
        print(f"{arguments.name}: {count} written")


if __name__ == "__main__":
    end_with(lambda: guarded(main))  # packages may ask the internet at the end of Python, and wait
