#!/usr/bin/env python
"""Keep what a benchmark measured, and make docs/benchmarks.md of all that is kept.

    python benchmarks/results.py          # writes docs/benchmarks.md anew

A benchmark calls `keep`. It prints the figures, and writes them to benchmarks/results/NAME.json with the machine, the
versions and the command.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
LOAD = os.getloadavg()[0]  # of the last minute, before anything is measured
ORDER = ("experience", "engine", "train_step", "gather", "hand_over", "save", "recovery", "evaluation", "launch")
WITH_RIVALS = ("experience", "train_step", "evaluation")  # those that take --rivals
HEAD = """# Benchmarks

Each figure is a ratio or an amount: the median of the repeats, with the least and the greatest. Rivals alternate with
ours where both are repeated: ours, its rival, its rival, ours. A line without a spread was measured once. A goal of
zero holds for each repeat, any other goal for the median.

`make bench` measures against bounds and simple rivals. `make bench-rivals` installs other systems in environments of
their own and measures beside them. Both write this page.
"""


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark's table.

    Attributes:
        name: says what is divided by what, or what is counted.
        values: one for each repeat.
        unit: of the values; none for a ratio.
        at_least, at_most: the goal of the median; an `at_most` of zero is one of each value.
    """

    name: str
    values: Sequence[float]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def is_met(self) -> bool:
        greatest = max(self.values) if self.at_most == 0 else self.value
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or greatest <= self.at_most
        )

    def cells(self) -> tuple[str, str, str, str, str]:
        spread = f"{shown(min(self.values))} to {shown(max(self.values))}" if len(self.values) > 1 else ""
        met = ("yes" if self.is_met else "no") if self.goal else ""
        return self.name, f"{shown(self.value)} {self.unit}".strip(), spread, self.goal, met


COLUMNS = ("", "median", "spread", "goal", "met")


def ratios(ours: Iterable[float], rival: Iterable[float]) -> list[float]:
    """Ours by the rival's, of each pair."""
    return [own / other for own, other in zip(ours, rival, strict=True)]


def losses(compared: Iterable[Figure]) -> list[str]:
    """A sentence on the ratios `rival / ours` below 1, of amounts that shall be small; none where there are none."""
    names = [figure.name for figure in compared if figure.value < 1]
    return [f"Ours loses where a rival needs less, so that the ratio is below 1: {'; '.join(names)}."] if names else []


def alternate(repeats: int, **measured: Callable[[], float]) -> dict[str, list[float]]:
    """Each measurement `repeats` times; every other time in the reverse order, so that no one is always first."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for at in range(repeats):
        for name in list(measured)[:: -1 if at % 2 else 1]:
            found[name].append(measured[name]())
    return found


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says on stderr that a part of a benchmark begins, and how many seconds it took, also where it fails."""
    print(f"{what} …", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        yield
    finally:
        print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def keep(
    benchmark: str,
    title: str,
    says: Sequence[str],
    figures: Sequence[Figure],
    packages: Sequence[str | tuple[str, ...]] = (),
) -> None:
    """Print the figures and write them to results/BENCHMARK.json.

    Args:
        benchmark: one of `ORDER`, with `-rivals` where other packages were measured as well.
        says: sentences on what was measured, and what the figures do not show.
        packages: distributions whose versions count. One that is not in this environment is given as `name==version`.
            Of a tuple, the first that is installed counts.
    """
    console = Console()
    console.print(table(title, figures))
    for sentence in says:
        console.print(sentence, soft_wrap=True, highlight=False)
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "title": title,
        "says": list(says),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *map(without_folders, sys.argv[1:])]),
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load_before": round(LOAD, 2),
        "versions": [f"python=={platform.python_version()}", f"aworld=={commit()}", *map(version, packages)],
        "figures": [asdict(figure) for figure in figures],
    }
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def table(title: str, figures: Iterable[Figure]) -> Table:
    found = Table(*COLUMNS, title=title)
    for figure in figures:
        found.add_row(*figure.cells())
    return found


def page(folder: Path = RESULTS) -> str:
    """docs/benchmarks.md, of the files in the folder."""
    parts = [HEAD]
    for path in sorted(folder.glob("*.json"), key=place):
        kept = json.loads(path.read_text())
        rows = [Figure(**figure).cells() for figure in kept["figures"]]
        lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows)]
        origin = f"{kept['measured']}, {kept['machine']}, load {kept['load_before']:.1f} before"
        origin += f"; {', '.join(kept['versions'])}"
        parts.append(
            "\n".join([f"## {kept['title']}", "", *lines, "", *kept["says"], "", f"`{kept['command']}`: {origin}.", ""])
        )
    return "\n".join(parts)


def place(path: Path) -> tuple[int, str]:
    name = path.stem.removesuffix("-rivals")
    return ORDER.index(name) if name in ORDER else len(ORDER), path.stem


def shown(value: float) -> str:
    """With three digits, and no exponent; a whole number without digits behind the point."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    digits = max(0, 2 - int(f"{abs(value):e}".rsplit("e", 1)[1]))
    return f"{value:,.{digits}f}"


def machine() -> str:
    """Cores, processor, memory and GPU of this machine."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    return ", ".join([f"{os.cpu_count()} cores of {processor()}", memory, *gpus()[:1]])


def processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def commit() -> str:
    """Of the checkout that was measured, with a mark where it has changes; the version where it has no history.

    The figures of the benchmarks before this one are no change.
    """
    git = ["git", "-C", str(ROOT)]
    changes = ["status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs/benchmarks.md"]
    try:
        head, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], changes)
        )
        return f"{head}-dirty" if changed else head
    except (OSError, subprocess.CalledProcessError):
        return importlib.metadata.version("aworld-slurm")


def version(package: str | tuple[str, ...]) -> str:
    """`name==version` of a distribution, or of the first of several that is installed here."""
    names = (package,) if isinstance(package, str) else package
    for name in names:
        if "==" in name:
            return name
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{name}=={importlib.metadata.version(name)}"
    return f"no {' or '.join(names)}"


def without_folders(word: str) -> str:
    """An argument of a command, whose absolute path is only its last part."""
    return re.sub(r"(^|=)/.*/(?=.)", r"\1", word)


def positive(word: str) -> int:
    """A whole number from 1 on: the `type` of an argument."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is below 1")
    return number


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(ROOT))
