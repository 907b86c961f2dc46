"""The table of `aworld status` on a terminal of 80 columns, in a narrower one, and in a pipe."""

from dataclasses import replace

import pytest
from rich.console import Console

from aworld.stages import EVALUATE, GATHER, ROLLOUT, TRAIN
from aworld.watch.status import Spread, StageStatus, Tally
from aworld.watch.table import stage_table

pytestmark = pytest.mark.unit


def training_round(name: str, played: int, tasks: int, trained: StageStatus | None = None) -> list[StageStatus]:
    """Trained, or else still played, or else not begun."""
    gathered = trained is not None
    return [
        StageStatus(ROLLOUT, name, played, tasks, gathered),
        StageStatus(GATHER, name, int(gathered), 1, gathered),
        trained or StageStatus(TRAIN, name, 0, 1, False),
    ]


STAGES = [
    *training_round("cold start", 60, 60, StageStatus(TRAIN, "cold start", 120, 120, True, 0.0312)),
    *training_round("round 120", 1024, 1024, StageStatus(TRAIN, "round 120", 63, 64, False, -0.0312)),
    *training_round("round 121", 1024, 1024),
    *training_round("round 122", 0, 1024),
    StageStatus(EVALUATE, "held-out-120", 250, 250, True),
]
TALLIES = {
    "cold start": Tally(60, 60, 0, 1.0),
    "round 120": Tally(8192, 8192, 12, 0.1234),
    "round 121": Tally(8000, 8192, 0, 0.5),
    "held-out-120": Tally(1000, 1000, 0, 0.25),
}
BENCHMARK = [StageStatus(EVALUATE, "gaia-validation-24", 165, 165, True)]


def shown(stages: list[StageStatus], tallies: dict[str, Tally], width: int) -> list[list[str]]:
    """The words of each line: of the two of the head, and of each row."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(stage_table(stages, tallies, console))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines if "──" not in line]


@pytest.mark.parametrize("width", [80, 200])
def test_each_row_is_one_line_with_whole_words_and_numbers(width: int) -> None:
    assert shown(STAGES, TALLIES, width) == [
        ["rollout", "training", "last"],
        ["tasks", "gather", "steps", "loss", "episodes", "failed", "reward"],
        ["cold", "start", "60", "done", "done", "120", "done", "0.031", "60", "1.000"],
        ["round", "120", "1024", "done", "done", "63/64", "-0.031", "8192", "12", "0.123"],
        ["round", "121", "1024/1024", "waiting", "waiting", "8000/8192", "0.500"],
        ["round", "122", "waiting", "waiting", "waiting"],
        ["held-out-120", "250", "done", "1000", "0.250"],
    ]


def test_a_round_that_plays_further_tasks_says_how_many_groups_have_spread() -> None:
    stages = list(STAGES)
    stages[3] = replace(stages[3], spread=Spread(640, 640, 0.375))
    stages[6] = replace(stages[6], spread=Spread(41, 640, 0.064))
    rows = shown(stages, TALLIES, 100)
    assert rows[1][3:5] == ["spread", "reward"]
    assert rows[3] == "round 120 1024 done done 63/64 640/640 38% -0.031 8192 12 0.123".split()
    assert rows[4] == "round 121 1024/1024 waiting waiting 41/640 6% 8000/8192 0.500".split()
    assert "640/640" in shown(stages, TALLIES, 80)[3]


def test_a_longer_name_takes_the_room_of_the_least_needed_column() -> None:
    stages, tallies = [*STAGES, *BENCHMARK], TALLIES | {"gaia-validation-24": Tally(660, 660, 0, None)}
    head, row = (shown(stages, tallies, 80)[at] for at in (1, -1))
    assert head == ["tasks", "steps", "loss", "episodes", "failed", "reward"]
    assert row == ["gaia-validation-24", "165", "done", "660"]
    assert "gather" in shown(stages, tallies, 100)[1]


def test_on_a_narrow_terminal_numbers_stay_whole() -> None:
    rows = shown(STAGES, TALLIES, 60)
    assert ["round", "120", "1024", "done", "63/64", "8192", "12", "0.123"] in rows


def test_nothing_is_said_of_failures_where_there_are_none() -> None:
    assert "failed" not in shown(STAGES, TALLIES | {"round 120": Tally(8192, 8192, 0, 0.1234)}, 80)[1]


def test_of_many_evaluations_those_around_the_work_in_hand_are_shown() -> None:
    stages: list[StageStatus] = []
    for number in range(1, 101):
        trained = StageStatus(TRAIN, f"round {number}", 4, 4, True, 0.5) if number <= 50 else None
        stages += training_round(f"round {number}", 16 if number <= 50 else 0, 16, trained)
        stages.append(StageStatus(EVALUATE, f"held-out-{number}", 6 * (number <= 50), 6, number <= 50))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(stage_table(stages, {}, console, most=10))
    rows = [line.split()[:2] for line in capture.get().splitlines()[3:]]
    assert rows[0] == ["…", "95"] and rows[-1] == ["…", "95"] and len(rows) == 12
    assert rows[5:7] == [["held-out-50", "6"], ["round", "51"]]


def test_rounds_that_wait_are_one_row_and_on_a_low_terminal_so_are_those_that_are_done() -> None:
    stages: list[StageStatus] = []
    for number in range(1, 25):
        name = f"round {number}"
        trained = StageStatus(TRAIN, name, 4, 4, True, 0.5) if number <= 17 else None
        stages += training_round(name, 16 if number <= 17 else 0, 16, trained)
    stages[17 * 3] = StageStatus(ROLLOUT, "round 18", 3, 16, False)
    stages.append(StageStatus(EVALUATE, "held-out-24", 0, 6, False))
    tallies = {f"round {number}": Tally(64, 64, 0, 0.25) for number in range(1, 18)}
    first = [" ".join(row[: 2 + (row[0] == "rounds") * 2]) for row in shown(stages, tallies, 80)[2:]]
    assert first == [*(f"round {n}" for n in range(1, 19)), "rounds 19 to 24", "held-out-24 waiting"]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(stage_table(stages, tallies, console, most=14))
    rows = [line.split() for line in capture.get().splitlines()[3:]]
    assert rows[0] == ["rounds", "1", "to", "15", "done", "done", "done"]
    assert [row[:2] for row in rows[1:4]] == [["round", "16"], ["round", "17"], ["round", "18"]]
    assert rows[4] == ["rounds", "19", "to", "24", "waiting", "waiting", "waiting"] and len(rows) == 6
