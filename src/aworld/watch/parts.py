"""The parts of the overview page: the work in hand, what was learned, the workers, what is slow, the last errors."""

import time
from collections import Counter
from itertools import accumulate, pairwise

from rich.text import Text

from aworld.errors import printable
from aworld.rundir import HELD_OUT
from aworld.stages import EVALUATE, GATHER, ROLLOUT, TRAIN
from aworld.watch.curve import curve
from aworld.watch.lines import Lines, Part, columns
from aworld.watch.members import RUNNING, Member
from aworld.watch.slow import PHASES, duration
from aworld.watch.status import StageStatus
from aworld.watch.view import View

SIGNS = "◆●▲■"  # of the evaluations in the curve; further ones share the last
LABELS = {**PHASES, EVALUATE: "rollout"}
UNITS = {ROLLOUT: "tasks", EVALUATE: "tasks", TRAIN: "steps", GATHER: ""}
COLOURS = {ROLLOUT: "cyan", GATHER: "yellow", TRAIN: "magenta"}
BAR, CURVE = 36, 14  # columns and lines at most


def at_work(view: View) -> Part:
    """A bar for each stage under way, and lines on jobs."""
    jobs = [
        f"{stage} " + ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
        for stage, states in view.overview.jobs.counts().items()
    ]
    notes = [*([f"jobs: {' · '.join(jobs)}"] if jobs else []), *view.overview.notes]

    def draw(width: int, height: int) -> Lines:
        rows = [_row(stage, view.left.get((stage.kind, stage.workload))) for stage in view.at_work]
        beside = max((sum(cell.cell_len + 2 for cell in row) for row in rows), default=0)
        room = max(0, min(BAR, width - beside - 2))
        bars = [_bar(stage.done / max(1, stage.total), room) for stage in view.at_work]
        lines = columns([[*row[:2], bar, *row[2:]] for row, bar in zip(rows, bars, strict=True)])
        return [*lines, *(Text(printable(note), "yellow") for note in notes)]

    wanted = len(view.at_work) + len(notes)
    return Part(Text("at work", "bold"), draw, wanted, least=min(4, wanted))


def _row(stage: StageStatus, left: float | None) -> list[Text]:
    unit = UNITS[stage.kind]
    note = f"about {duration(left)} left" if left is not None and left >= 1 else ""
    if stage.in_hand:
        note = f"{stage.in_hand} in hand  {note}"
    if stage.loss is not None:
        note = f"loss {stage.loss:.3f}  {note}"
    if stage.spread:
        note = f"{stage.spread.found}/{stage.spread.wanted} with spread  {note}"
    done = f"{stage.done}/{stage.total} {unit}".strip() if stage.is_begun else "waiting"
    return [Text(printable(stage.workload)), Text(LABELS[stage.kind]), Text(done), Text(note.strip(), "dim")]


def _bar(share: float, width: int) -> Text:
    full = round(share * width)
    return Text.assemble(("━" * full, "green"), ("─" * (width - full), "dim"))


def learning(view: View) -> Part:
    """The curve of rewards. Its title tells the signs, and the first and the last value of each evaluation."""
    line = view.rewards.get("round", [])
    names = [HELD_OUT, *sorted(view.rewards.keys() - {HELD_OUT, "round"})]
    signs = {name: SIGNS[min(at, len(SIGNS) - 1)] for at, name in enumerate(names)}
    title = Text.assemble(("reward", "bold"))
    if line:
        title.append(f"  rounds {_first_and_last([value for _, value in line])}", "cyan")
    for name in names:
        if values := [value for _, value in view.rewards.get(name, [])]:
            title.append(f"  {signs[name]} {printable(name)} {_first_and_last(values)}", "bold yellow")
    marks: dict[str, list[tuple[int, float]]] = {}
    for name in names:
        marks.setdefault(signs[name], []).extend(view.rewards.get(name, []))
    last = max((number for points in view.rewards.values() for number, _ in points), default=0)

    def draw(width: int, height: int) -> Lines:
        if not view.rewards:
            return [Text("no round has a reward yet", "dim")]
        return curve(line, marks, last, width, max(2, height))

    return Part(title, draw, CURVE if view.rewards else 1, least=4 if view.rewards else 1)


def _first_and_last(values: list[float]) -> str:
    return f"{values[0]:.2f}" if len(values) == 1 else f"{values[0]:.2f} → {values[-1]:.2f}"


def members(view: View) -> Part:
    """The trainer and the workers; those that need a look come first."""
    counts = Counter(member.state.partition(" (")[0] for member in view.members)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common() if state)
    title = Text.assemble(("workers", "bold"), f" of {printable(view.played)}" if view.played else "")
    title.append(f": {states}" if states else "")

    def draw(width: int, height: int) -> Lines:
        lines = member_lines(view)
        if len(lines) > height > 1:
            lines = [*lines[: height - 1], Text(f"… {len(lines) - height + 1} more: tab", "dim")]
        return lines or [Text("none yet", "dim")]

    return Part(title, draw, max(1, len(view.members)), least=min(3, max(1, len(view.members))))


def member_lines(view: View) -> Lines:
    def urgency(member: Member) -> tuple[bool, int, float]:
        return member.state == RUNNING, -member.restarts, -(member.silent or 0.0)

    return columns([_cells(member) for member in sorted(view.members, key=urgency)])


def _cells(member: Member) -> list[Text]:
    played = "" if member.episodes is None else f"{member.episodes} episodes"
    silent = "" if member.silent is None else f"last {duration(member.silent)} ago"
    again = f"began again {member.restarts} ×" if member.restarts else ""
    node = f"on {member.node.partition('.')[0]}" if member.node else ""
    state = Text(printable(member.state), "green" if member.state == RUNNING else "yellow")
    return [Text(member.name), state, Text(node), Text(played), Text(silent, "dim"), Text(again, "yellow")]


def times(view: View) -> Part:
    """The phases of the last round as one bar, and what takes long."""
    number, phases = view.phases
    whole = sum(phases.values())

    def draw(width: int, height: int) -> Lines:
        lines: Lines = []
        if whole:
            told = Text(f"round {number}: " if number else "cold start: ")
            told.append_text(Text("  ").join(Text(f"{PHASES[k]} {duration(s)}", COLOURS[k]) for k, s in phases.items()))
            room = min(BAR, width - told.cell_len - 2)
            if room >= 12:
                told.append("  ")
                ends = [round(room * end / whole) for end in accumulate(phases.values(), initial=0.0)]
                for kind, (begin, end) in zip(phases, pairwise(ends), strict=True):
                    told.append("█" * (end - begin), COLOURS[kind])
            lines.append(told)
        return [*lines, *(Text(printable(line)) for line in view.slow)] or [Text("nothing is measured yet", "dim")]

    wanted = max(1, bool(whole) + len(view.slow))
    return Part(Text("what takes time", "bold"), draw, wanted, least=min(2, wanted))


def finished(view: View) -> Part:
    """The last rounds and evaluations that are finished."""
    losses = {stage.workload: stage.loss for stage in view.overview.stages if stage.loss is not None}
    names = [name for name in view.overview.tallies if name in view.overview.over]

    def draw(width: int, height: int) -> Lines:
        rows = []
        for name in names[-height:]:
            tally = view.overview.tallies[name]
            row = [
                Text(printable(name)),
                Text("" if tally.reward is None else f"reward {tally.reward:.3f}"),
                Text(f"{tally.played} episodes"),
                Text(f"{tally.failed} failed" if tally.failed else "", "yellow"),
                Text(f"loss {losses[name]:.3f}" if name in losses else "", "dim"),
            ]
            rows.append(row)
        return columns(rows)

    return Part(Text("finished", "bold"), draw, len(names), least=3)


def errors(view: View) -> Part:
    """The last error of each log, and the file to read."""

    def draw(width: int, height: int) -> Lines:
        lines: Lines = []
        for fault in view.faults:
            path = fault.path.relative_to(view.overview.run.root)
            ago = f"{path}, {duration(max(0.0, time.time() - fault.time))} ago"
            lines += [Text.assemble((f"{fault.stage}: ", "bold red"), printable(fault.text)), Text(f"  {ago}", "dim")]
        return lines or [Text("none in the logs of the newest jobs", "dim")]

    wanted = max(1, 2 * len(view.faults))
    return Part(Text("last errors", "bold"), draw, wanted, least=min(2, wanted))
