"""The table of `aworld status`: a row for each round and each evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aworld.watch.status import StageStatus, Tally

HEADS = {"rollout": "rollout\ntasks", "evaluate": "rollout\ntasks", "gather": "gather", "train": "training\nsteps"}
NUMBERS = ("loss", "episodes", "failed", "reward")
LEAST_NEEDED = ("gather", "loss")  # first to go; a rollout counts as done when its round is gathered
UNLIMITED = 10_000  # columns, or rows
RECENT = 2  # rounds that are done and keep their rows
Part = tuple[str, list[StageStatus]]
SLIM = partial(Table, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def parts(stages: list[StageStatus], tallies: Mapping[str, Tally], console: Console, most: int = UNLIMITED) -> Table:
    """A row for each part, in the columns that have something to say and that the console has room for.

    Rounds that wait are one row, and so are those that are done where there would be more than `most` rows.

    Args:
        tallies: of the parts that have begun, by name.
    """
    groups = [(part, list(group)) for part, group in groupby(stages, lambda stage: stage.part)]
    groups = _folded(groups, lambda stage: not stage.done, 0)
    if len(groups) > most:
        groups = _folded(groups, lambda stage: stage.finished, RECENT)
    rows = [{"": part} | _cells(group, tallies.get(part)) for part, group in groups]
    heads = [head for head in ("", *dict.fromkeys(HEADS.values()), *NUMBERS) if any(row.get(head) for row in rows)]
    for least in LEAST_NEEDED:
        if console.measure(_made(heads, rows), options=console.options.update(width=UNLIMITED)).maximum > console.width:
            heads = [head for head in heads if head != least]
    return _made(heads, rows)


def _folded(groups: list[Part], is_so: Callable[[StageStatus], bool], recent: int) -> list[Part]:
    """Neighbouring rounds become one part where `is_so` holds for all their stages; the last `recent` stay apart."""
    folded: list[Part] = []
    for are_so, some in groupby(groups, lambda group: group[0].startswith("round ") and all(map(is_so, group[1]))):
        alike = list(some)
        together = alike[: len(alike) - recent] if are_so and len(alike) > recent + 1 else []
        if together:
            first, last = (part.removeprefix("round ") for part, _ in (together[0], together[-1]))
            one = [replace(stage, total=1, loss=None) for stage in together[0][1]]
            folded.append((f"rounds {first} to {last}", one))
        folded += alike[len(together) :]
    return folded


def _made(heads: list[str], rows: list[dict[str, str]]) -> Table:
    made = SLIM()
    for head in heads:
        # A name, which may be as long as a benchmark's, folds before a number does.
        made.add_column(head, no_wrap=head != "", overflow="fold", justify="right" if head in NUMBERS else "left")
    for row in rows:
        made.add_row(*(row.get(head, "") for head in heads))
    return made


def _cells(stages: list[StageStatus], tally: Tally | None) -> dict[str, str]:
    """What a row says, by the head of the column."""
    cells: dict[str, str] = {}
    for stage in stages:
        cells[HEADS[stage.stage]] = _progress(stage)
        if stage.loss is not None:
            cells["loss"] = f"{stage.loss:.3f}"
    if tally and tally.played:  # else its journals may have been removed
        is_over = tally.played >= tally.total
        cells["episodes"] = f"{tally.played} done" if is_over else f"{tally.played}/{tally.total}"
        cells["failed"] = str(tally.failed or "")
        cells["reward"] = "" if tally.reward is None else f"{tally.reward:.3f}"
    return cells


def _progress(stage: StageStatus) -> str:
    if stage.finished:
        return f"[green]{f'{stage.total} done' if stage.total > 1 else 'done'}[/]"
    return f"[yellow]{stage.done}/{stage.total}[/]" if stage.done else "[dim]waiting[/]"
