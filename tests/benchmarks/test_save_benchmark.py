"""What a save costs, of the seconds that two replicas measured."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import save

pytestmark = pytest.mark.unit


def measured(still: float, beside: list[float], foreground: float) -> dict[str, Any]:
    """Of a replica whose save takes nothing to end, after a step of four seconds."""
    seconds = {"still": still, "alone": 4.0, "step": beside[0], "in all": save.in_all(still, beside, 0.0, 4.0)}
    return {"saves": {name: [value] for name, value in seconds.items()} | {"foreground": [foreground]}}


def test_a_save_costs_what_it_begins_and_ends_in_and_what_the_steps_beside_it_take_longer() -> None:
    assert save.in_all(0.1, [5.0, 4.2], 0.2, 4.0) == pytest.approx(1.5)
    ranks = [measured(0.2, [5.0], 0.4), measured(0.1, [6.0], 0.5)]
    values = {figure.name: figure.value for figure in save.figures(ranks)}
    assert values == pytest.approx(
        {
            "seconds that training stands still for a save / of a step": 0.2 / 4,
            "seconds that a save costs in all / of a step": 2.1 / 4,
            "seconds of a step with a save behind it / of a step": 6 / 4,
            "seconds that a save in the foreground costs / of a step": 0.5 / 4,
        }
    )


def test_the_page_says_which_save_costs_less_as_it_was_measured() -> None:
    assert save.verdict([measured(0.1, [5.0], 0.5)]) == save.BACKGROUND_LOSES
    assert save.verdict([measured(0.1, [4.1], 0.5)]) == save.BACKGROUND_WINS
