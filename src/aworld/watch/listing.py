"""The list of `aworld show`: a line for each episode of a round or an evaluation that fits a search."""

from collections.abc import Iterator, Sequence
from itertools import islice, product

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aworld.errors import InputError, printable
from aworld.rundir import RunDir
from aworld.trajectories.record import Record
from aworld.watch.search import Place, Search, newest, places, search, tool_errors
from aworld.watch.table import SLIM, UNLIMITED

NUMBERS = ("level", "reward", "turns", "tokens", "seconds", "tool\nerrors")
TEXTS = ("error", "found")
TEXT_COLUMNS = 24  # of a text, at least
LEAST_NEEDED = ("level", "tokens", "turns", "seconds", "tool\nerrors")  # the first to go on a narrow terminal

Found = tuple[Record, str]


def show_list(run: RunDir, name: str | None, wanted: Search, limit: int, console: Console) -> None:
    """Print the episodes of a place that fit, a line each.

    Args:
        name: of the place, such as 3 or held-out-3; None: the one with the newest episodes.
        limit: lines at most; 0: all.

    Raises:
        InputError: there is no such place, or nothing was played yet.
    """
    there = places(run)
    place = newest(there) if name is None else next((each for each in there if each.name == name), None)
    if place is None:
        if name is None:
            raise InputError(f"no episode was played yet in {run.root}; what is under way: aworld status {run.root}")
        raise InputError(f"{_spoken(name)} is not in {run.root}; there are: {_summary(there) or 'none'}")
    found = search(place, wanted)
    shown = list(islice(found, limit or None))
    if shown:
        console.print(_table(place, shown, console))
    _line(f"{_spoken(place.name)}: {_count(shown, found, wanted)}", console)
    if name is None:
        _line(f"there are: {_summary(there)}", console)
    if shown and any((place.folder / "journals").glob("*.journal")):  # which alone hold the turns
        _line(f"turn by turn: aworld show {run.root} {_name(place, shown[0][0])}", console)


def _count(shown: Sequence[Found], others: Iterator[Found], wanted: Search) -> str:
    """How many episodes fit. Where each costs the reading of a text, no further one is counted."""
    if not shown:
        return "no episode fits"
    if next(others, None) is None:
        return f"{len(shown)} episode{'' if len(shown) == 1 else 's'}"
    count = "more" if wanted.text else f"{len(shown) + 1 + sum(1 for _ in others)}"
    return f"{count} episodes fit, {len(shown)} of them are shown; --limit 0 shows all"


def _spoken(name: str) -> str:
    return f"round {name}" if name.isdecimal() else name


def _name(place: Place, record: Record) -> str:
    return f"{place.name}/{record.task_id}/{record.attempt}"


def _summary(there: Sequence[Place]) -> str:
    """Such as rounds 0 to 8, held-out-0, 3 and 8."""
    kinds: dict[str, list[str]] = {}
    for place in there:
        kind, _, number = place.name.rpartition("-")
        kinds.setdefault(kind, []).append(number)
    parts = []
    for kind, numbers in kinds.items():
        if not kind:
            parts.append(f"rounds {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"round {numbers[0]}")
        else:
            some = numbers if len(numbers) <= 5 else [*numbers[:2], "…", *numbers[-2:]]
            parts.append(f"{kind}-{', '.join(some)}")
    return ", ".join(parts)


def _table(place: Place, shown: Sequence[Found], console: Console) -> Table:
    """A row for each. On a narrow console the least needed columns are left out, and texts are cut."""
    rows = [_cells(place, record, piece) for record, piece in shown]
    heads = [head for head in rows[0] if any(row[head].plain for row in rows)]
    texts = [head for head in heads if head in TEXTS]
    for least in (*LEAST_NEEDED, ""):
        others = _columns(rows, [head for head in heads if head not in TEXTS])
        room = console.width - console.measure(others, options=console.options.update(width=UNLIMITED)).maximum
        if room >= len(texts) * TEXT_COLUMNS:
            break
        heads = [head for head in heads if head != least]
    for row, head in product(rows, texts):
        row[head].truncate(max(TEXT_COLUMNS, room // len(texts) - 2), overflow="ellipsis")
    return _columns(rows, heads)


def _columns(rows: Sequence[dict[str, Text]], heads: Sequence[str]) -> Table:
    table = SLIM()
    for head in heads:
        # A name folds before a number does: it can be copied from two lines.
        right = head in NUMBERS
        table.add_column(head, justify="right" if right else "left", no_wrap=head != "episode", overflow="fold")
    for row in rows:
        table.add_row(*(row[head] for head in heads))
    return table


def _cells(place: Place, record: Record, piece: str) -> dict[str, Text]:
    """The cells of a line, by their heads. As Text, since what a policy wrote is no markup."""
    errors = tool_errors(record)
    return {
        "episode": Text(printable(_name(place, record))),
        "level": Text(str(record.level)),
        "reward": Text(f"{record.reward:.2f}", "green" if record.reward >= 1 else "red"),
        "ended": Text(record.status),
        "turns": Text(str(record.turns)),
        "tokens": Text(str(record.tokens)),
        "seconds": Text(f"{record.seconds.get('total', 0.0):.1f}"),
        "tool\nerrors": Text(str(errors) if errors else "", "red"),
        "error": Text(printable(record.error)),
        "found": Text(printable(piece)),
    }


def _line(text: str, console: Console) -> None:
    console.print(Text(printable(text)), soft_wrap=True)
