"""What is said of the time that tests take: in the table, and in the texts that a newcomer reads."""

import re
import sys
import tomllib
from pathlib import Path

import minutes
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import results

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]


def test_a_tier_that_crept_up_is_said_loudly_and_noise_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minutes, "KEPT", tmp_path / "minutes.toml")
    minutes.KEPT.write_text('[rest]\n"by the clock" = 20.0\nengine = 4.0\ntools = 0.1\n')
    taken = {"by the clock": 21.0, "engine": 6.0, "tools": 0.5, "unit": 1.0}
    whole, engine, tools, unit = minutes.table("rest", taken)
    assert "21.0 minutes, 20.0 are kept" in whole and "6.0 minutes, 4.0 are kept" in engine
    assert ["CREPT UP" in line for line in (whole, engine, tools, unit)] == [False, True, False, False]
    assert "kept" not in unit


def test_the_texts_say_the_minutes_that_are_kept() -> None:
    """Rounded up to whole minutes, or more."""
    kept = {name: part["by the clock"] for name, part in tomllib.loads(minutes.KEPT.read_text()).items()}
    kept["all"] = kept["test"] + kept["rest"]
    text = (ROOT / "Makefile").read_text()
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for name, target in {"fast": "test-fast", "test": "test", "rest": "test-rest", "all": "test-all"}.items():
        (said,) = re.findall(rf"^{target}:.*##.*: (\d+) minutes", text, re.MULTILINE)
        assert kept[name] <= int(said) <= 1.5 * kept[name] + 2, target
        assert target == "test-rest" or re.search(rf"^make {target} .*: {said} minutes", guide, re.MULTILINE), target
        if target == "test":
            assert re.search(rf"^make test .*: {said} minutes", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_texts_say_as_many_minutes_of_the_benchmarks_as_their_own_texts_together() -> None:
    """Each says its minutes, as a number or a word, in the line of its command."""
    words = {"a": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    together = 0
    for name in results.ORDER:
        head = (ROOT / "benchmarks" / f"{name}.py").read_text().split('"""')[1]
        lines = [line for line in head.splitlines() if re.match(rf" +python benchmarks/{name}.py", line)]
        (said,) = re.findall(r"\b(\w+) minutes?\b", next(line for line in lines if "minute" in line))
        together += int(said) if said.isdigit() else words[said]
    (said,) = re.findall(r"^bench:.*##.*: (\d+) minutes$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert together <= int(said) <= together + 5
    assert re.search(rf"^make bench .*: {said} minutes$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
