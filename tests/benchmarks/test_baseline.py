"""Figures beside their baseline."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from baseline import machine_kind, table, worse

EPISODE_COST = Path(__file__).parents[2] / "benchmarks" / "episode_cost.py"


@pytest.mark.unit
def test_what_got_more_than_a_twentieth_slower_is_named() -> None:
    found = {"same": 1.0, "noise": 1.04, "slower": 1.06, "faster": 0.5, "new": 9.0}
    kept = {"same": 1.0, "noise": 1.0, "slower": 1.0, "faster": 1.0, "gone": 1.0}
    assert worse(found, kept) == ["slower"] and worse(found, {}) == []
    console = Console(file=io.StringIO(), width=80)
    console.print(table(found, kept))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "+6%" in shown and "-50%" in shown and "gone" not in shown


@pytest.mark.unit
def test_a_kind_of_machine_is_a_file_name() -> None:
    kind = machine_kind()
    assert kind and set(kind) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.tools
def test_an_episode_and_a_servers_start_are_measured() -> None:
    command = [sys.executable, str(EPISODE_COST), "--episodes", "4", "--repeats", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(found) == ["episode_reset", "episode_never", "tool_server", "sdk_server"]
    assert found["episode_reset"] > 0 and 0 < found["tool_server"] < found["sdk_server"]
