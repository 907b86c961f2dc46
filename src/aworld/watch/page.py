"""The pages of `aworld watch`, each as large as the terminal: an overview, and three that can be scrolled."""

import time
from collections import Counter
from functools import lru_cache

from rich.console import Console, Group, RenderableType
from rich.segment import Segment, Segments
from rich.text import Text

from aworld.errors import printable
from aworld.watch.jobs import jobs_table
from aworld.watch.lines import AIRY, Lines, beside, fit, spread, stacked
from aworld.watch.parts import at_work, errors, finished, learning, member_lines, members, times
from aworld.watch.table import stage_table
from aworld.watch.view import View

PAGES = ("overview", "stages", "workers", "errors")
HALVES = 120  # columns, from which on the overview has two halves
AROUND = 4  # lines around the body


def page(view: View, name: str, top: int, console: Console, note: str) -> tuple[RenderableType, int]:
    """One of PAGES, exactly as large as the terminal; and how many of its lines are scrolled away.

    Args:
        top: how many lines are to be scrolled away.
        note: what a person should know of the looks, such as why the last one failed.
    """
    width, height = console.size
    room = max(0, height - AROUND)
    lines = _lines(view, name, console, width, room)
    top = max(0, min(top, len(lines) - room))
    body = lines[top : top + room]
    body += [Text()] * (room - len(body))
    return Group(*_head(view, width, note), *body, _foot(name, width)), top


@lru_cache(maxsize=1)
def _lines(view: View, name: str, console: Console, width: int, room: int) -> list[RenderableType]:
    """All lines of a page between head and foot. The head is drawn anew each second, these once for each look."""
    if name == "overview":
        return [*_overview(view, width, room)]
    lines = console.render_lines(_whole(view, name, console, width), console.options.update(width=width))
    return [Segments([*line, Segment.line()]) for line in lines]


def _head(view: View, width: int, note: str) -> Lines:
    there = max([0, *(number for number, _ in view.rewards.get("round", []))])
    said = Text.assemble((printable(view.name), "bold"), f"   round {there} of {view.rounds}" if view.rounds else "")
    verdict = Text(view.overview.verdict)
    if note:
        verdict.append("   " + printable(note), "yellow")
    return [spread(said, Text(time.strftime("%H:%M:%S"), "dim"), width), fit(verdict, width), Text()]


def _foot(name: str, width: int) -> Text:
    keys = "q quit   tab next page" + ("" if name == "overview" else "   ↑ ↓ scroll")
    names = Text("  ").join(Text(each, "bold" if each == name else "dim") for each in PAGES)
    return spread(Text(keys, "dim"), names, width)


def _overview(view: View, width: int, height: int) -> Lines:
    if width < HALVES:
        parts = [at_work(view), learning(view), members(view), times(view), errors(view)]
        return stacked([*parts, finished(view)] if height >= AIRY else parts, width, height)
    half = (width - 3) // 2
    left = stacked([at_work(view), learning(view), times(view), finished(view)], half, height)
    return beside(left, stacked([members(view), errors(view)], half, height), half)


def _whole(view: View, name: str, console: Console, width: int) -> RenderableType:
    """All of a page that can be scrolled."""
    overview = view.overview
    if name == "stages":
        tables: list[RenderableType] = [stage_table(overview.stages, overview.tallies, console), Text()]
        if view.jobs:
            tables += [jobs_table(view.jobs), Text()]
        return Group(*tables, *(Text(printable(line)) for line in overview.notes))
    if name == "workers":
        counts = Counter(member.state for member in view.members)
        states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        return Group(Text(states or "no workers yet"), Text(), *(fit(line, width) for line in member_lines(view)))
    found: list[RenderableType] = [Text("no errors in the logs of the newest jobs")] if not view.faults else []
    for fault in view.faults:
        when = time.strftime("%d %B %H:%M:%S", time.localtime(fault.time))
        found += [Text(f"{fault.stage}, {when}", "bold"), Text(printable(fault.text)), Text(str(fault.path), "dim")]
        found.append(Text())
    return Group(*found)
