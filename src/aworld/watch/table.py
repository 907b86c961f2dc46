"""The table of `aworld status`: a row for each round and each evaluation."""

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aworld.stages import EVALUATE, GATHER, ROLLOUT, TRAIN
from aworld.watch.status import StageStatus, Tally

HEADS = {ROLLOUT: "rollout\ntasks", EVALUATE: "rollout\ntasks", GATHER: "gather", TRAIN: "training\nsteps"}
LOSS = "last\nloss"
SPREAD, ONE_REWARD = "with\nspread", "one\nreward"  # groups; of those played, the share without spread
NUMBERS = (SPREAD, ONE_REWARD, LOSS, "episodes", "failed", "reward")
LEAST_NEEDED = ("gather", LOSS, ONE_REWARD)  # first to go; a rollout counts as done when its round is gathered
UNLIMITED = 10_000  # columns, or rows
RECENT = 2  # finished rounds that keep their rows
Row = tuple[str, list[StageStatus]]
SLIM = partial(Table, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def stage_table(
    stages: list[StageStatus], tallies: Mapping[str, Tally], console: Console, most: int = UNLIMITED
) -> Table:
    """A row for each workload. Empty columns are left out, and so are the least needed ones of a narrow console.

    Waiting rounds share one row. Finished rounds share one where the table would have more than `most` rows. Where
    there are still more, as where each policy is evaluated, those around the work in hand are shown.

    Args:
        tallies: of the workloads that have begun, by name.
    """
    groups = [(name, list(group)) for name, group in groupby(stages, lambda stage: stage.workload)]
    groups = _folded(groups, {name for name, some in groups if not any(stage.is_begun for stage in some)})
    if len(groups) > most:
        finished = [name for name, some in groups if _is_round(name) and all(stage.finished for stage in some)]
        groups = _around(_folded(groups, set(finished[:-RECENT])), most)
    rows = [{"": name} | _cells(group, tallies.get(name)) for name, group in groups]
    heads = [head for head in ("", *dict.fromkeys(HEADS.values()), *NUMBERS) if any(row.get(head) for row in rows)]
    for least in LEAST_NEEDED:
        if (
            console.measure(_table(heads, rows), options=console.options.update(width=UNLIMITED)).maximum
            > console.width
        ):
            heads = [head for head in heads if head != least]
    return _table(heads, rows)


def _is_round(name: str) -> bool:
    return name.startswith("round ")


def _folded(groups: list[Row], names: Container[str]) -> list[Row]:
    """Neighbouring rounds of these names become one row."""
    folded: list[Row] = []
    for alike, some in groupby(groups, lambda group: _is_round(group[0]) and group[0] in names):
        neighbours = list(some)
        if alike and len(neighbours) > 1:
            first, last = (neighbours[at][0].removeprefix("round ") for at in (0, -1))
            shared = [replace(stage, total=1, loss=None, spread=None) for stage in neighbours[0][1]]
            folded.append((f"rounds {first} to {last}", shared))
        else:
            folded += neighbours
    return folded


def _around(groups: list[Row], most: int) -> list[Row]:
    """At most so many rows around the first one that is not finished, between the numbers of those left out."""
    at = next((n for n, (_, stages) in enumerate(groups) if not all(s.finished for s in stages)), len(groups))
    begin = max(0, min(at - most // 2, len(groups) - most))
    end = begin + most
    before: list[Row] = [(f"… {begin} before", [])] if begin else []
    behind: list[Row] = [(f"… {len(groups) - end} behind", [])] if end < len(groups) else []
    return [*before, *groups[begin:end], *behind]


def _table(heads: list[str], rows: list[dict[str, str]]) -> Table:
    table = SLIM()
    for head in heads:
        # A name, which may be as long as a benchmark's, folds before a number does.
        table.add_column(head, no_wrap=head != "", overflow="fold", justify="right" if head in NUMBERS else "left")
    for row in rows:
        table.add_row(*(row.get(head, "") for head in heads))
    return table


def _cells(stages: list[StageStatus], tally: Tally | None) -> dict[str, str]:
    """The cells of a row, by the head of the column."""
    cells: dict[str, str] = {}
    for stage in stages:
        cells[HEADS[stage.kind]] = _progress(stage)
        if stage.spread:
            cells[SPREAD] = f"{stage.spread.found}/{stage.spread.wanted}"
            cells[ONE_REWARD] = f"{stage.spread.share:.0%}"
        if stage.loss is not None:
            cells[LOSS] = f"{stage.loss:.3f}"
    if tally and tally.played:  # else its journals may have been removed
        cells["episodes"] = str(tally.played) if tally.played >= tally.total else f"{tally.played}/{tally.total}"
        cells["failed"] = str(tally.failed or "")
        cells["reward"] = "" if tally.reward is None else f"{tally.reward:.3f}"
    return cells


def _progress(stage: StageStatus) -> str:
    if stage.finished:
        return f"[green]{f'{stage.total} done' if stage.total > 1 else 'done'}[/]"
    return f"[yellow]{stage.done}/{stage.total}[/]" if stage.is_begun else "[dim]waiting[/]"
