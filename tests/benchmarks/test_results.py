"""What is kept of a benchmark, and the page that is made of it."""

import argparse
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench
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
        (Figure("lost in one repeat", [0, 0, 2], at_most=0.0), ("0", "0 to 2", "≤ 0", "no")),
        (Figure("steps", [2, 5, 1_234]), ("5", "2 to 1,234", "", "")),
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
    monkeypatch.setattr(
        sys, "argv", [str(results.ROOT / "benchmarks/x.py"), "--model=/home/me/small", "/tmp/a/b", "a/b"]
    )
    packages = ["h5py", ("not-there", "numpy"), "not-there", "trl==1.0"]
    for name in ("launch", "engine-rivals", "engine"):
        results.keep(name, f"About {name}", ["It says this."], [Figure("ratio", [1.5, 3.5, 2.5])], packages)
    kept = json.loads((tmp_path / "engine.json").read_text())
    assert kept["figures"][0]["values"] == [1.5, 3.5, 2.5] and kept["versions"][-2:] == ["no not-there", "trl==1.0"]
    assert kept["versions"][-3].startswith("numpy==")
    assert kept["command"] == "python benchmarks/x.py --model=small b a/b"
    page = results.page(tmp_path)
    places = [page.index(f"## About {name}\n") for name in ("engine", "engine-rivals", "launch")]
    assert places == sorted(places)
    assert "| ratio | 2.50 | 1.50 to 3.50 |" in page and "cores of" in page and "h5py==3" in page
    assert f"load {results.LOAD:.1f} before" in page
    assert "About engine" in capsys.readouterr().out


def test_a_loss_is_said() -> None:
    assert results.losses([Figure("a / ours", [0.9, 1.2, 0.8]), Figure("b / ours", [1.1])])[0].endswith(": a / ours.")
    assert results.losses([Figure("b / ours", [1.1])]) == []


def test_a_copy_without_history_has_our_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results.commit() != importlib.metadata.version("aworld-slurm")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.commit() == importlib.metadata.version("aworld-slurm")


def test_those_with_rivals_take_the_option_and_no_other_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = results.ROOT / "benchmarks"
    assert [n for n in results.ORDER if "--rivals" in (folder / f"{n}.py").read_text()] == [*results.WITH_RIVALS]
    for words, says in ((["--rivals", "gather"], "no rivals of gather"), (["nothing"], "no such benchmark: nothing")):
        monkeypatch.setattr(sys, "argv", ["bench.py", *words])
        with pytest.raises(SystemExit):
            bench.main()
        assert says in capsys.readouterr().err


def test_a_number_of_repeats_is_positive() -> None:
    assert results.positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="0 is below 1"):
        results.positive("0")


def test_after_a_benchmark_that_failed_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experience.py").write_text("raise SystemExit(3)")
    (tmp_path / "engine.py").write_text("import sys; print(*sys.argv[1:])")
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(sys, "argv", ["bench.py", "experience", "engine"])
    with pytest.raises(SystemExit, match="failed: experience"):
        bench.main()
    said = capfd.readouterr()
    assert said.out == "--keep\n" and results.PAGE.read_text() == results.page()
    assert "experience failed with exit code 3" in said.err and re.search(r"^engine: \d+ s$", said.err, re.MULTILINE)
