"""What is kept of a benchmark, and the page that is made of it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import results
from results import Figure

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("figure", "cells"),
    [
        (Figure("of the bound", [0.97, 0.951, 0.99], at_least=0.95), ("0.970", "0.951 to 0.990", "≥ 0.95", "yes")),
        (Figure("start", [1.2, 1.3], at_most=1.1), ("1.25", "1.20 to 1.30", "≤ 1.1", "no")),
        (Figure("memory", [14_612.4], "MB"), ("14,612 MB", "", "", "")),
        (Figure("lost", [0.0], at_most=0.0), ("0", "", "≤ 0", "yes")),
    ],
)
def test_a_figure_is_a_median_with_its_spread_and_its_goal(figure: Figure, cells: tuple[str, ...]) -> None:
    assert figure.cells()[1:] == cells


def test_measurements_alternate_and_no_one_is_always_first() -> None:
    order = []

    def noted(name: str) -> float:
        order.append(name)
        return len(order)

    found = results.alternate(3, ours=lambda: noted("ours"), rival=lambda: noted("rival"))
    assert order == ["ours", "rival", "rival", "ours", "ours", "rival"]
    assert results.ratios(found["ours"], found["rival"]) == [1 / 2, 4 / 3, 5 / 6]


def test_the_page_has_every_result_in_order_with_machine_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for name in ("launch", "engine-rivals", "engine"):
        results.keep(name, f"About {name}", ["It says this."], [Figure("ratio", [1.0, 3.0, 2.0])], ["h5py", "trl==1.0"])
    kept = json.loads((tmp_path / "engine.json").read_text())
    assert kept["figures"][0]["values"] == [1.0, 3.0, 2.0] and kept["versions"][-1] == "trl==1.0"
    page = results.page(tmp_path)
    places = [page.index(f"## About {name}\n") for name in ("engine", "engine-rivals", "launch")]
    assert places == sorted(places)
    assert "| ratio | 2.00 | 1.00 to 3.00 |" in page and "cores of" in page and "h5py==3" in page
    assert "About engine" in capsys.readouterr().out
