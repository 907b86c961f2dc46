#!/usr/bin/env python
"""Measure what must not get slower, beside what this kind of machine took before.

    python benchmarks/baseline.py            # two minutes; says what takes more than 5 % longer than its baseline
    python benchmarks/baseline.py --keep     # writes these figures to benchmarks/baselines/KIND.json

Run it on an idle machine. A baseline holds for one kind of machine: so many cores of one processor, and its GPU.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import episode_cost
import results

BASELINES = Path(__file__).parent / "baselines"
TOLERATED = 0.05  # of a figure
STEP = ("--shape", "tiny", "--layers", "4", "--tokens", "256", "--json")

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="make these figures the baseline of this kind of machine")
    arguments = parser.parse_args()
    path = BASELINES / f"{machine_kind()}.json"
    kept: Figures = json.loads(path.read_text())["seconds"] if path.exists() else {}
    found = measure()
    console = Console()
    console.print(table(found, kept))
    for name in worse(found, kept):
        console.print(f"[bold red]{name} takes {found[name] / kept[name] - 1:.0%} longer than its baseline[/]")
    if not kept:
        console.print(f"this kind of machine ({path.stem}) has no baseline; --keep makes one")
    if arguments.keep:
        BASELINES.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"measured": datetime.now(UTC).date().isoformat(), "seconds": found}, indent=1) + "\n"
        )
        console.print(f"kept in {path.relative_to(BASELINES.parents[1])}")


def measure() -> Figures:
    """CPU seconds of an episode and of a tool server's start; seconds of the trainer's step on a tiny model."""
    found = episode_cost.measure()
    step = [sys.executable, str(Path(__file__).with_name("mfu.py")), *STEP]
    done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return found | {"trainer_step": json.loads(done.stdout)["seconds"]}


def machine_kind() -> str:
    """A file name for this kind of machine, such as 2-intel-xeon-processor."""
    name = " ".join([f"{os.cpu_count()} {results.processor()}", *results.gpus()[:1]])
    return re.sub(r"(\(r\)|\(tm\)|[^a-z0-9])+", "-", name.lower()).strip("-")


def worse(found: Figures, kept: Figures) -> list[str]:
    """The names of the figures that exceed their baseline by more than is tolerated."""
    return [name for name, value in found.items() if name in kept and value > kept[name] * (1 + TOLERATED)]


def table(found: Figures, kept: Figures) -> Table:
    shown = Table("", "seconds", "baseline", "change")
    for name, value in found.items():
        before = kept.get(name)
        change = f"{value / before - 1:+.0%}" if before else ""
        shown.add_row(name, f"{value:.3f}", f"{before:.3f}" if before else "", change)
    return shown


if __name__ == "__main__":
    main()
